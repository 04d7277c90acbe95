"""The broker: one typed method for each transition of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from worker_agent.protocol import list_item, wire
from worker_agent.protocol.actor import Actor, is_agent
from worker_agent.protocol.bodies import APART_BYTES, Bodies, apart_form, body_key, new_ending
from worker_agent.protocol.calls import MAX_TASKS_PER_CALL
from worker_agent.protocol.connection.guard import MalformedReply
from worker_agent.protocol.connection.redis_errors import foreign_key_message
from worker_agent.protocol.connection.retry import NO_RETRIES, RetryPolicy
from worker_agent.protocol.connection.waiting import send_together
from worker_agent.protocol.errors import ConcurrentChange, MutiTaskError, RedisRefused
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import MAX_EVENTS, Membership
from worker_agent.protocol.printable import printable
from worker_agent.protocol.replies import check_script_reply, to_dict
from worker_agent.protocol.scripts import script
from worker_agent.protocol.settlements import Settlement, encode_runs
from worker_agent.protocol.task_bodies import TaskBodies

MAX_CLAIM_BYTES = 1024 * 1024
"""A claim ends with the item that reaches this size. A body that is stored apart counts a quarter."""
_OPTIONS_AT = slice(list_item.HEADER_BYTES - 1, list_item.HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of `settle_and_claim`."""

    items: list[bytes]
    """The claimed list items."""
    number: int
    """The number of the claim, which settlements name."""
    waiting: int
    """How many tasks still wait in the channel."""
    refused: int
    """How many settlements were refused, because their tasks were settled or recovered before."""
    waiting_elsewhere: tuple[int, ...] = ()
    """How many tasks wait in each of the other channels that the call named; 0 in a paused channel."""
    next_crashed: bool = False
    """Whether the channel's next task crashed before. An actor gets it only once it holds no task of any channel."""
    limited_ms: int = 0
    """In how many ms the channel's rate allows the next task. 0 if no rate holds tasks back."""


@dataclass(frozen=True, slots=True)
class Allotted:
    """The result of `allot`."""

    taken: int
    """How many of the items were pushed."""
    waiting: int
    """How many tasks wait in the channel now."""
    why: str
    """Why no more were pushed: '', `full`, `results`, `paused` or `ended`."""


@dataclass(frozen=True, slots=True)
class Reload:
    """One step of a reload of all failed tasks of a channel. `Reload()` is what comes before the first."""

    moved: int = 0
    """How many tasks this step requeued."""
    passed: int = 0
    """How many of the oldest tasks all steps left where they are: foreign items, which cannot run."""
    until: bytes = b""
    """The time of the first step. Tasks that failed later are left."""
    more: bool = True
    """Whether there may be more tasks to requeue."""


class Broker(Membership):
    """The transitions of tasks in one namespace, called by one actor.

    Every method can raise `RedisUnavailable` (when `retry` gives up) or `RedisRefused`. A method that needs a live
    actor can raise `LeaseLost`. Large bodies are stored, fetched and removed here (`bodies.py`).
    """

    def __init__(
        self, client: Any, name: str, actor: Actor, *, address: str, retry: RetryPolicy = NO_RETRIES
    ) -> None:
        super().__init__(client, name, actor, address=address, retry=retry)
        self.bodies = Bodies(client, name, address)
        self._task_bodies = TaskBodies(self.bodies)

    def store_bodies(self, channel: int, tasks: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Store the bodies of tasks, each given as the item that will be pushed and the body."""
        bodies = {key: body for item, body in tasks for key in self.bodies.keys(channel, [item])}

        def store() -> None:
            for refusal in self.bodies.store(bodies).values():
                raise refusal

        self.retry(store)

    def allot(
        self, channel: int, cursor: int, items: Sequence[bytes], *, exhausted: bool = False, halted: str = "",
    ) -> Allotted:  # fmt: skip
        """Push items into a channel whose feed is at the count `cursor`. Items with a delay become delayed tasks.

        `exhausted` says that the generator ends after these items, `halted` why the feed stops after them.
        Raises `Superseded`, `NamespaceGone`, `CountMoved` or `LeaseLost`.
        """
        at = self.keys.channel(channel)
        keys = [
            self.keys.actor(self.actor.id), self.keys.meta, at.counters, at.waiting, at.results, at.token,
            self.keys.desired_server, at.agent_counters, at.marks, at.delayed,
        ]  # fmt: skip
        delayed = int(
            any(
                item[_OPTIONS_AT] == list_item.OPTIONS and list_item.options_of(item).delay_ms
                for item in items
            )
        )
        reply = self._numbered(
            "allot", keys, [self.actor.id], cursor, int(exhausted), halted, delayed, *items
        )
        why = reply[3].decode("utf-8", "replace")
        return Allotted(int(reply[1]), int(reply[2]), why)

    def marks(self, channel: int) -> dict[bytes, bytes]:
        """Return the digests of allotted items."""
        return to_dict(self.query("HGETALL", self.keys.channel(channel).marks))

    def forget_marks(self, channel: int) -> None:
        """Delete the digests of allotted items."""
        self.query("DEL", self.keys.channel(channel).marks)

    def skip_item(self, channel: int, number: int) -> None:
        """Skip the item at which the feed stopped. Raises `CountMoved` if `number` is not the present count."""
        keys = [self.keys.actor(self.actor.id), self.keys.meta, self.keys.channel(channel).counters]
        self._numbered("skip_item", keys, [self.actor.id], number)

    def settle_and_claim(
        self,
        channel: int,
        settlements: Iterable[Settlement],
        want: int,
        most_bytes: int = MAX_CLAIM_BYTES,
        *,
        number: int | None = None,
        others: Sequence[int] = (),
        held_elsewhere: int = 0,
    ) -> Claim:
        """Settle tasks of a channel and claim up to `want` others from it. Raises `LeaseLost` or `WritesLost`.

        `others` are channels of which the caller wants to know how many tasks wait. `held_elsewhere` is how many tasks
        the actor has claimed from other channels: a task that crashed is not claimed beside them (law 9).
        An actor that holds such a task must not call with `want` above 0 for another channel.
        `number` is the number of a claim of this channel that was sent ahead and has no answer yet. If Redis ran that
        call, this one only returns its answer.
        """
        settlements = self._task_bodies.store_results(channel, settlements, self.actor.id, self.retry)
        reply = self._numbered(
            "settle_and_claim",
            self._claim_keys(channel, others),
            [self.actor.id], channel, want, most_bytes, held_elsewhere, len(others), *others,
            *encode_runs(settlements), number=number,
        )  # fmt: skip
        claim = self._parse_claim(reply)
        ended = self._task_bodies.ended(settlements, refused=claim.refused > 0)
        return self._with_bodies(channel, claim, self.retry, ended)

    def claim_at_token(
        self,
        client: Any,
        channel: int,
        want: int,
        number: int,
        seconds: float,
        *,
        device_token: str = "",
        on_device_token: Callable[[], None] = lambda: None,
        until: Callable[[], bool] = lambda: False,
    ) -> Claim | None:
        """Wait for the channel's token for at most `seconds`, then claim, both in one round trip.

        Redis runs the claim as soon as the wait ends. `client` is a blocking client, `number` the actor's next number.
        `device_token` ends the wait too. Then `on_device_token` is called before the claim is returned. Gives up soon
        after `until` returns true. Returns None if the claim has no answer, for any reason. The caller then calls
        `settle_and_claim` with the same number, which tries again and raises the error.
        """
        keys = self._claim_keys(channel)
        tokens = [self.keys.channel(channel).token, *([device_token] if device_token else [])]
        block = ("BLPOP", *tokens, f"{seconds:.3f}")
        claim = (self.actor.id, number, channel, want, MAX_CLAIM_BYTES, 0, 0)
        calls = [block, ("EVALSHA", script("settle_and_claim").sha, len(keys), *keys, *claim)]
        try:
            popped, reply = send_together(client, calls, until)
        except Exception:
            # Redis is away, or its reply is malformed. The caller repeats the call, which then raises the right error.
            return None
        if device_token and isinstance(popped, list) and popped[:1] == [device_token.encode()]:
            on_device_token()
        if not isinstance(reply, list) or reply[:1] != [b"ok"]:
            return None
        try:
            claimed = self._parse_claim(check_script_reply("settle_and_claim", reply))
            return self._with_bodies(channel, claimed, NO_RETRIES)
        except (MutiTaskError, MalformedReply):
            return None

    def _with_bodies(
        self, channel: int, claim: Claim, retry: RetryPolicy, unlink: Sequence[bytes] = ()
    ) -> Claim:
        """Return the claim with bodies that were apart. Removes the bodies `unlink`."""
        items = self._task_bodies.fetch(channel, claim.number, claim.items, unlink, retry)
        return claim if items is claim.items else replace(claim, items=items)

    def _parse_claim(self, reply: list[Any]) -> Claim:
        try:
            items = list_item.unpack_items(reply[3])
        except wire.Undecodable:
            raise RedisRefused(foreign_key_message(self.address)) from None
        elsewhere = tuple(int(count) for count in reply[5])
        return Claim(
            items, int(reply[4]), int(reply[2]), int(reply[1]), elsewhere, bool(int(reply[6])), int(reply[7])
        )

    def _claim_keys(self, channel: int, others: Sequence[int] = ()) -> list[str]:
        keys = claim_keys(self.keys, self.actor.id, channel)
        return [*keys, *(self.keys.channel(other).waiting for other in others)] if others else keys

    def drain(self, channel: int, offset: int, count: int, bodies: Sequence[bytes] = ()) -> int:
        """Remove the first `count` results. `offset` is how many were drained before they were read.

        `bodies` are the keys of those of them that are stored apart. Returns how many were removed. Raises `CountMoved`
        if another process drained results since then.
        """
        at = self.keys.channel(channel)
        keys = [
            self.keys.actor(self.actor.id), at.counters, at.results, self.keys.server_token, at.agent_counters,
        ]  # fmt: skip
        drained = int(self._numbered("drain", keys, [], offset, count)[1])
        self.bodies.unlink(bodies)
        return drained

    def reload(self, channel: int, ids: Sequence[str]) -> int:
        """Requeue failed tasks with fresh counters of attempts and crashes. Return how many were still there."""
        keys = self._fail_keys(channel)
        moved = 0
        for first in range(0, len(ids), MAX_TASKS_PER_CALL):
            part = ids[first : first + MAX_TASKS_PER_CALL]
            moved += int(self._numbered("reload", keys, [], "", MAX_TASKS_PER_CALL, 0, *part)[1])
        return moved

    def reload_all(self, channel: int) -> int:
        """Requeue all tasks that have failed until now, in calls of at most 1,000. Return how many."""
        moved, step = 0, Reload()
        while step.more:
            step = self.reload_step(channel, step)
            moved += step.moved
        return moved

    def reload_step(self, channel: int, before: Reload) -> Reload:
        """Requeue the next 1,000 of the tasks that had failed at the first step. `before` is the step before."""
        reply = self._numbered(
            "reload", self._fail_keys(channel), [], before.until, MAX_TASKS_PER_CALL, before.passed
        )
        moved, passed = int(reply[1]), int(reply[2])
        return Reload(moved, before.passed + passed, reply[3], moved + passed == MAX_TASKS_PER_CALL)

    def edit(self, channel: int, id_: str, body: bytes) -> bool:
        """Give a failed task a new body and requeue it. Return whether it was still there."""
        if len(body) < APART_BYTES:
            return self._edit(channel, id_, list_item.INLINE + body)
        # The old body must stay as it is: the task may be reloaded and run meanwhile.
        ending = new_ending()
        key = body_key(self.keys.name, channel, id_, ending)
        if self.retry(lambda: self.bodies.store({key: body})):
            return self._edit(
                channel, id_, list_item.INLINE + body
            )  # No memory, which the script frees first.
        edited = self._edit(channel, id_, apart_form(len(body), ending))
        if not edited:
            self.bodies.unlink([key])
        return edited

    def _edit(self, channel: int, id_: str, form: bytes) -> bool:
        reply = self._numbered("edit", self._fail_keys(channel), [], id_, form)
        self.bodies.unlink(self.bodies.keys(channel, reply[2:3]))
        return int(reply[1]) == 1

    def delete(self, channel: int, ids: Sequence[str]) -> int:
        """Delete failed tasks. Return how many were still there."""
        at = self.keys.channel(channel)
        keys = [
            self.keys.actor(self.actor.id), at.counters, at.failed, at.failed_at, at.reasons, at.traces, at.trace_uses,
        ]  # fmt: skip
        dropped = 0
        for first in range(0, len(ids), MAX_TASKS_PER_CALL):
            reply = self._numbered("delete", keys, [], *ids[first : first + MAX_TASKS_PER_CALL])
            dropped += int(reply[1])
            self.bodies.unlink([key for items in reply[2:3] for key in self.bodies.keys(channel, items)])
        return dropped

    def _fail_keys(self, channel: int) -> list[str]:
        at = self.keys.channel(channel)
        return [
            self.keys.actor(self.actor.id), at.failed, at.failed_at, at.reasons, at.waiting, at.token,
            at.traces, at.trace_uses,
        ]  # fmt: skip

    def set_desired(
        self,
        key: str,
        fields: dict[str, str],
        *,
        tokens: Sequence[str] = (),
        reset: bool = False,
        ttl_ms: int = 0,
    ) -> None:
        """Write desired state to one of the keys `desired_*`, and push to `tokens` so that their readers wake.

        An empty value removes its field. `reset` first removes all fields. `ttl_ms` is the key's time to live, 0 for
        none.
        """
        pairs = [part for pair in fields.items() for part in pair]
        keys = [self.keys.actor(self.actor.id), key, *tokens]
        self._numbered("set_desired", keys, [], int(reset), ttl_ms, *pairs)

    def set_capacity(self, channel: int, capacity: int) -> None:
        """Set a channel's capacity. A smaller capacity drops no tasks."""
        self._configure(self.keys.channel(channel).counters, "capacity", f"={capacity}", 1)

    def set_total(self, channel: int, total: int) -> None:
        """Record how many tasks a channel's generator will yield."""
        self._configure(self.keys.channel(channel).counters, "total", f"={total}", 0)

    def set_meta_count(self, field: str, count: int) -> None:
        """Record one of the server's counts of stored bodies (`bodies...`)."""
        self._configure(self.keys.meta, field, f"={count}", 0)

    def add_devices(self, count: int) -> int:
        """Add devices to the grid; a negative `count` removes some. Return the new number.

        Raises `ValueError` if it would be below 0.
        """
        return self._configure(self.keys.fleet, "devices", f"{count:+d}", 0)

    def _configure(self, key: str, field: str, change: str, least: int) -> int:
        keys = [self.keys.actor(self.actor.id), key, self.keys.server_token]
        reply = self._numbered("configure", keys, [], field, change, least)
        if reply[0] == b"low":
            raise ValueError(f"{field} would be {int(reply[1])}")
        return int(reply[1])

    def purge_device(self, device: int) -> bool:
        """Delete the last report of an offline device. Return whether there was one.

        Raises `ConcurrentChange` while an agent is on the device.
        """
        keys = [
            self.keys.actor(self.actor.id), self.keys.devices, self.keys.agents, self.keys.leases,
            self.keys.desired_devices, self.keys.desired_assignments, self.keys.heard,
        ]  # fmt: skip
        reply = self._numbered("purge_device", keys, [], device)
        if reply[0] == b"held":
            raise ConcurrentChange(f"an agent is on Device{device}")
        return int(reply[1]) == 1

    def answer_detect(self, detect: str, answer: bytes) -> None:
        """Answer a detect. The process that asked waits on a list that lives for a minute."""
        self._call("answer_detect", [self.keys.detect_answers(detect)], answer, 60_000)

    def append_event(self, level: Literal["info", "warning", "error"], who: str, text: str) -> None:
        """Append an event to the namespace's log."""
        # An agent has no right to remove old events. The server removes them.
        most = 0 if is_agent(self.actor.id) else MAX_EVENTS
        self._call("append_event", [self.keys.events], most, wire.pack([level, who, printable(text, 500)]))


@lru_cache(maxsize=1024)
def claim_keys(keys: Keys, actor: str, channel: int) -> list[str]:
    """Return the keys of `settle_and_claim` for one channel. Making them takes as long as a tenth of the call."""
    at = keys.channel(channel)
    return [
        keys.actor(actor), keys.leases, at.counters, at.waiting, at.delayed, at.failed, at.failed_at, at.reasons,
        at.results, at.claim_counts, at.agents, at.claims(actor), keys.desired_channels, at.token,
        keys.server_token, keys.meta, at.agent_counters, at.retry_reasons, at.traces, at.trace_uses,
    ]  # fmt: skip
