"""One typed method for each transition of a task: what an actor may do to a namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worker_agent.protocol import wire
from worker_agent.protocol.actor import channel_of
from worker_agent.protocol.connection.connect import send_together
from worker_agent.protocol.connection.guard import MalformedReply
from worker_agent.protocol.connection.redis_errors import foreign_key_message
from worker_agent.protocol.errors import ConcurrentChange, RedisRefused
from worker_agent.protocol.membership import MAX_EVENTS, MAX_TASKS_PER_CALL, Membership
from worker_agent.protocol.printable import printable
from worker_agent.protocol.replies import check_script_reply, to_dict
from worker_agent.protocol.scripts import script
from worker_agent.protocol.settlements import Settlement, encode_runs

MAX_CLAIM_BYTES = 1024 * 1024
"""A claim ends with the item that reaches this many bytes."""
GIVE_UP_CHECK_S = 0.1
"""How often whoever waits for a token looks whether it should still wait."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to `settle_and_claim`: list items claimed, the claim's number, tasks that wait, settles refused."""

    items: list[bytes]
    number: int
    waiting: int
    refused: int


@dataclass(frozen=True, slots=True)
class Allotted:
    """How many items a channel took, what waits there now, and why it took no more."""

    taken: int
    waiting: int
    why: str
    """'', `full`, `results`, `paused` or `ended`."""


class Broker(Membership):
    """The transitions of one namespace, for one actor.

    Every method raises `RedisUnavailable` (once `patience` is at its end) or `RedisRefused`; those that
    need a living actor raise `LeaseLost`.
    """

    def allot(
        self, channel: int, cursor: int, items: Sequence[bytes], *, exhausted: bool = False, halted: str = ""
    ) -> Allotted:
        """Feed a channel from the count `cursor` on. Raises `Superseded`, `ConcurrentChange` or `LeaseLost`."""
        at = self.keys.channel(channel)
        keys = [
            self.keys.actor(self.actor.id), self.keys.meta, at.counters, at.waiting, at.results, at.token,
            self.keys.desired_server, at.agent_counters, at.marks,
        ]  # fmt: skip
        reply = self._numbered("allot", keys, [self.actor.id], cursor, int(exhausted), halted, *items)
        why = reply[3].decode("utf-8", "replace")
        return Allotted(int(reply[1]), int(reply[2]), why)

    def marks(self, channel: int) -> dict[bytes, bytes]:
        """What is remembered of the items that were allotted."""
        return to_dict(self.query("HGETALL", self.keys.channel(channel).marks))

    def forget_marks(self, channel: int) -> None:
        """Remember nothing of them."""
        self.query("DEL", self.keys.channel(channel).marks)

    def skip_item(self, channel: int, number: int) -> None:
        """Pass over the item at which the feed stopped. Raises `ConcurrentChange` if the count is another by now."""
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
    ) -> Claim:
        """Settle what was run and claim up to `want` tasks. Raises `LeaseLost`, or its kind `WritesLost`.

        `number` is that of a claim sent ahead that has no answer yet: where it had run, its answer comes, and this call
        does nothing.
        """
        reply = self._numbered(
            "settle_and_claim", self._claim_keys(channel), [self.actor.id],
            channel, want, most_bytes, *encode_runs(settlements), number=number,
        )  # fmt: skip
        return self._claim_in(reply)

    def claim_at_token(
        self,
        client: Any,
        channel: int,
        want: int,
        number: int,
        seconds: float,
        *,
        until: Callable[[], bool] = lambda: False,
    ) -> Claim | None:
        """Block on the channel's token for so long, then claim: in one trip, since Redis keeps what follows a block.

        `client` is a blocking one, `number` the actor's next; the wait is given up within `GIVE_UP_CHECK_S` once `until` is
        true. None where no claim was the answer, whatever the reason: then the caller asks by `settle_and_claim` with
        the same number, which tries again and says what is wrong.
        """
        keys = self._claim_keys(channel)
        block = ("BLPOP", self.keys.channel(channel).token, f"{seconds:.3f}")
        claim = (self.actor.id, number, channel, want, MAX_CLAIM_BYTES)
        calls = [block, ("EVALSHA", script("settle_and_claim").sha, len(keys), *keys, *claim)]
        reply = send_together(client, calls, until, GIVE_UP_CHECK_S)
        if not isinstance(reply, list) or reply[:1] != [b"ok"]:
            return None
        try:
            return self._claim_in(check_script_reply("settle_and_claim", reply))
        except (RedisRefused, MalformedReply):
            return None

    def _claim_in(self, reply: list[Any]) -> Claim:
        try:
            items = wire.unpack_items(reply[3])
        except wire.Undecodable:
            raise RedisRefused(foreign_key_message(self.address)) from None
        return Claim(items, int(reply[4]), int(reply[2]), int(reply[1]))

    def _claim_keys(self, channel: int) -> list[str]:
        at = self.keys.channel(channel)
        return [
            self.keys.actor(self.actor.id), self.keys.leases, at.counters, at.waiting, at.delayed, at.failed,
            at.failed_at, at.reasons, at.results, at.claim_counts, at.agents, at.claims(self.actor.id),
            self.keys.desired_channels, at.token, self.keys.server_token, self.keys.meta, at.agent_counters, at.retry_reasons,
        ]  # fmt: skip

    def drain(self, channel: int, offset: int, count: int) -> int:
        """Take away `count` results that were read from `offset` on. Raises `ConcurrentChange` if others drained."""
        at = self.keys.channel(channel)
        keys = [
            self.keys.actor(self.actor.id),
            at.counters,
            at.results,
            self.keys.server_token,
            at.agent_counters,
        ]
        return int(self._numbered("drain", keys, [], offset, count)[1])

    def reload(self, channel: int, ids: Sequence[str]) -> int:
        """Bring failed tasks back to waiting, with fresh counters; how many were still there."""
        keys = self._fail_keys(channel)
        moved = 0
        for first in range(0, len(ids), MAX_TASKS_PER_CALL):
            part = ids[first : first + MAX_TASKS_PER_CALL]
            moved += int(self._numbered("reload", keys, [], "", MAX_TASKS_PER_CALL, 0, *part)[1])
        return moved

    def reload_all(self, channel: int) -> int:
        """Bring back all that have failed by now, in calls of at most 1,000; how many."""
        keys = self._fail_keys(channel)
        moved, passed, until = 0, 0, b""
        while True:
            reply = self._numbered("reload", keys, [], until, MAX_TASKS_PER_CALL, passed)
            moved, passed, until = moved + int(reply[1]), passed + int(reply[2]), reply[3]
            if int(reply[1]) + int(reply[2]) < MAX_TASKS_PER_CALL:
                return moved

    def edit(self, channel: int, id_: str, body: bytes) -> bool:
        """Give a failed task another body and bring it back; whether it was still there."""
        return int(self._numbered("edit", self._fail_keys(channel), [], id_, wire.MSGPACK + body)[1]) == 1

    def delete(self, channel: int, ids: Sequence[str]) -> int:
        """Drop failed tasks for good; how many were still there."""
        at = self.keys.channel(channel)
        keys = [self.keys.actor(self.actor.id), at.counters, at.failed, at.failed_at, at.reasons]
        dropped = 0
        for first in range(0, len(ids), MAX_TASKS_PER_CALL):
            dropped += int(self._numbered("delete", keys, [], *ids[first : first + MAX_TASKS_PER_CALL])[1])
        return dropped

    def _fail_keys(self, channel: int) -> list[str]:
        at = self.keys.channel(channel)
        return [self.keys.actor(self.actor.id), at.failed, at.failed_at, at.reasons, at.waiting, at.token]

    def set_desired(
        self,
        key: str,
        fields: dict[str, str],
        *,
        tokens: Sequence[str] = (),
        reset: bool = False,
        ttl_ms: int = 0,
    ) -> None:
        """Write desired states under one of the keys' `wish_*`, and wake those whose `tokens` are named."""
        pairs = [part for pair in fields.items() for part in pair]
        keys = [self.keys.actor(self.actor.id), key, *tokens]
        self._numbered("set_desired", keys, [], int(reset), ttl_ms, *pairs)

    def set_capacity(self, channel: int, capacity: int) -> None:
        """Set a channel's capacity; a smaller one drops nothing."""
        self._configure(self.keys.channel(channel).counters, "capacity", f"={capacity}", 1)

    def set_total(self, channel: int, total: int) -> None:
        """Tell how many tasks a channel's generator will yield."""
        self._configure(self.keys.channel(channel).counters, "total", f"={total}", 0)

    def add_devices(self, step: int) -> int:
        """Add to the number of devices in the grid; the new number. Raises `ValueError` below 0."""
        return self._configure(self.keys.fleet, "devices", f"{step:+d}", 0)

    def _configure(self, key: str, field: str, change: str, least: int) -> int:
        keys = [self.keys.actor(self.actor.id), key, self.keys.server_token]
        reply = self._numbered("configure", keys, [], field, change, least)
        if reply[0] == b"low":
            raise ValueError(f"{field} would be {int(reply[1])}")
        return int(reply[1])

    def purge_device(self, device: int) -> bool:
        """Forget an offline device; whether there was one. Raises `ConcurrentChange` while an agent is on it."""
        keys = [
            self.keys.actor(self.actor.id), self.keys.devices, self.keys.agents, self.keys.leases,
            self.keys.desired_devices,
        ]  # fmt: skip
        reply = self._numbered("purge_device", keys, [], device)
        if reply[0] == b"held":
            raise ConcurrentChange(f"an agent is on Device{device}")
        return int(reply[1]) == 1

    def answer_detect(self, detect: str, answer: bytes) -> None:
        """Answer a detect."""
        self._call("answer_detect", [self.keys.detect_answers(detect)], answer, 60_000)

    def append_event(self, level: Literal["info", "warning", "error"], who: str, text: str) -> None:
        """Add a line to the namespace's event log."""
        # An agent has no right to take events away: the server does, for all.
        most = MAX_EVENTS if channel_of(self.actor.id) is None else 0
        self._call("append_event", [self.keys.events], most, wire.pack([level, who, printable(text, 500)]))
