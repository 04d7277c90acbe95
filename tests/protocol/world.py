"""A namespace for a test: a server, agents and operators that the test controls through their brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack
import redis

from mutitask_tui.server.feed import small_form
from tests.protocol.tap import RawCall, Tap
from tests.run_plan import run_plan
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.actor import Actor, is_agent
from worker_agent.protocol.bodies import APART_BYTES, body_of, key_prefix
from worker_agent.protocol.broker import Broker, Claim
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.keys import ChannelKeys, Keys
from worker_agent.protocol.membership import Run
from worker_agent.protocol.served_channels import Served, served_numbers
from worker_agent.protocol.settlements import (
    CRASHED,
    DONE,
    FAILED,
    HANDED_BACK,
    SAVED,
    UNDECODABLE,
    unsettled_items,
)

LARGE = "large " * 1_100
"""A body that is stored apart."""
MAX_CLAIM = 1_000
"""The most tasks that one claim returns."""

Outcome = tuple[str, bytes, bytes]
"""A task's id, its outcome, and what the outcome carries."""
NO_CLAIM = (999_999, 1)
"""Number and place for a task that the actor has not claimed."""


def reason(text: str) -> bytes:
    """Return the reason of a failed run."""
    return wire.pack({"error": text})


def given_up(why: str) -> bytes:
    """Return what a script appends to the reasons of a task that does not run again."""
    return wire.pack({"given_up": why})


def id_of(item: bytes) -> str:
    """Return the id in a list item."""
    return list_item.parse(item).id


def done(id_: str, result: object = 0) -> list[Outcome]:
    return [(id_, DONE, result_of(id_, result))]


def saved(id_: str) -> list[Outcome]:
    return [(id_, SAVED, b"")]


def failed(id_: str, text: str = "ValueError") -> list[Outcome]:
    return [(id_, FAILED, reason(text))]


def failed_for_good(id_: str, text: str = "Timeout") -> list[Outcome]:
    return [(id_, UNDECODABLE, reason(text))]


def crashed(id_: str, text: str = "ProcessDied") -> list[Outcome]:
    return [(id_, CRASHED, reason(text))]


def handed_back(id_: str) -> list[Outcome]:
    return [(id_, HANDED_BACK, b"")]


def result_of(id_: str, result: object) -> bytes:
    """Return an item of the result channel."""
    return list_item.header(id_[:8], int(id_[8:])) + wire.pack(result)


class ById(Broker):
    """A broker that takes settlements by task id. It remembers the place of each task in the actor's claims."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places: dict[tuple[int, str], tuple[int, int]] = {}
        """By channel and id: channels number their tasks alike."""

    def place_of(self, channel: int, id_: str) -> tuple[int, int]:
        """Return the number of the claim that holds the task, and its place in it."""
        return self.places.get((channel, id_), NO_CLAIM)

    def settle_and_claim(  # type: ignore[override]
        self, channel: int, outcomes: Iterable[Outcome], want: int, *args: Any, **kwargs: Any
    ) -> Claim:
        settlements = [(*self.place_of(channel, id_), outcome, carried) for id_, outcome, carried in outcomes]
        return self._remembered(
            channel, super().settle_and_claim(channel, settlements, want, *args, **kwargs)
        )

    def claim_at_token(self, client: Any, channel: int, *args: Any, **kwargs: Any) -> Claim | None:
        claim = super().claim_at_token(client, channel, *args, **kwargs)
        return claim and self._remembered(channel, claim)

    def _remembered(self, channel: int, claim: Claim) -> Claim:
        self.places |= {
            (channel, id_of(item)): (claim.number, place) for place, item in enumerate(claim.items, 1)
        }
        return claim


class World:
    """One namespace. `at` are the keys of channel 0. `body` is that of each task, unless a call names another."""

    def __init__(self, client: redis.Redis, name: str = "t", *, body: object = "body", **plan: Any) -> None:
        self.client = client
        self.body = body
        self.tap = Tap(client)
        self.keys = Keys(name)
        self.plan: dict[str, Any] = {"channels": 2, "devices": 2, "capacity": 50, "autostart": True} | plan
        self.run: Run
        self.server: Broker
        self.new_server()

    @property
    def at(self) -> ChannelKeys:
        return self.keys.channel(0)

    def broker(self, actor: Actor) -> ById:
        """Return a broker for an actor that is not registered."""
        return ById(self.tap, self.keys.name, actor, address="here")

    def new_server(self, *, gone: str = "", **plan: Any) -> Broker:
        """Register a new server, which becomes `self.server`. `gone` as in `open_run`."""
        broker = self.broker(Actor.server())
        self.run = broker.open_run(run_plan(**(self.plan | plan)), this_process(), gone=gone)
        self.server = broker
        return broker

    def successor(self, **plan: Any) -> Broker:
        """Register a server that replaces the present one, whose process has ended."""
        holder = self.client.hget(self.keys.meta, "server") or b""
        return self.new_server(**({"mode": "resume", "gone": holder.decode()} | plan))

    def agent(self, device: int = 0, served: Served = (0,), *, holder: str = "", gone: bool = False) -> ById:
        """Register an agent that runs tasks of the served channels."""
        broker = self.broker(Actor.agent())
        channels = broker.join(device, served, this_process(), holder=holder, gone=gone)
        broker.heartbeat(device, b"heartbeat", claims_from=served_numbers(served, channels))
        return broker

    def operator(self) -> Broker:
        """Register an operator, such as a `ctl`."""
        broker = self.broker(Actor.operator())
        broker.register_operator()
        return broker

    def items(self, first: int, count: int, channel: int = 0, body: object = None) -> list[bytes]:
        """Return new items as they are pushed. Large bodies are stored."""
        packed = wire.pack(self.body if body is None else body)
        numbers = range(first, first + count)
        return self.stored(channel, [list_item.header(self.run.id, number) + packed for number in numbers])

    def stored(self, channel: int, items: Sequence[bytes]) -> list[bytes]:
        """Store the large bodies of these items. Return the items as they are pushed."""
        pushed = [small_form(item) if len(item) >= APART_BYTES else item for item in items]
        pairs = zip(pushed, items, strict=True)
        self.server.store_bodies(channel, [(small, body_of(item)) for small, item in pairs if small != item])
        return pushed

    def bodies(self) -> set[bytes]:
        """Return the keys of all bodies that are stored apart."""
        return set(self.client.keys(key_prefix(self.keys.name) + b"*"))

    def cursor(self, channel: int = 0) -> int:
        return int(self.counters(channel).get("cursor", 0))

    def feed(self, count: int, channel: int = 0, body: object = None) -> list[str]:
        """Allot `count` tasks. Return their ids."""
        cursor = self.cursor(channel)
        items = self.items(cursor, count, channel, body)
        assert self.server.allot(channel, cursor, items).taken == count
        return [id_of(item) for item in items]

    def claim(
        self,
        agent: ById,
        want: int = MAX_CLAIM,
        settlements: Iterable[Outcome] = (),
        *,
        channel: int = 0,
        held_elsewhere: int = 0,
    ) -> list[str]:
        """Settle and claim in a channel. Return the claimed ids."""
        claim = agent.settle_and_claim(channel, settlements, want, held_elsewhere=held_elsewhere)
        return [id_of(item) for item in claim.items]

    def settle(self, agent: ById, *settlements: Outcome, want: int = 0, channel: int = 0) -> Claim:
        return agent.settle_and_claim(channel, settlements, want)

    def fail(self, agent: ById, count: int = 1) -> list[str]:
        """Feed tasks on channel 0 and let them fail without retries. Return their ids, oldest first."""
        self.feed(count)
        ids = self.claim(agent, count)
        self.settle(agent, *(part for id_ in ids for part in failed_for_good(id_)))
        return ids

    def expire(self, actor: Broker) -> None:
        """Let the actor's lease end. The actor is not fenced yet."""
        leases = self.keys.leases if is_agent(actor.actor.id) else self.keys.server_lease
        self.client.zadd(leases, {actor.actor.id: 1})

    def expire_and_recover(self, actor: Broker) -> int:
        """Let the actor's lease end and recover it. Return how many tasks were requeued or failed."""
        self.expire(actor)
        return self.broker(Actor.operator()).recover(actor.actor.id, reason("crashed"))

    def claimed_items(self, agent: Broker, channel: int = 0) -> list[bytes]:
        """Return the list items of a channel that an agent has claimed and not settled."""
        return unsettled_items(self.client.hgetall(self.keys.channel(channel).claims(agent.actor.id)))

    def set_crashes(self, agent: Broker, *ids: str, crashes: int) -> None:
        """Set the number of crashes of tasks that an agent has claimed from channel 0."""
        key = self.at.claims(agent.actor.id)
        for field, value in self.client.hgetall(key).items():
            if b":" not in field:
                items = [
                    item[:24] + b"%d" % crashes + item[25:] if id_of(item) in ids else item
                    for item in list_item.unpack_items(value)
                ]
                self.client.hset(key, field, msgpack.packb(items, use_bin_type=False))

    def counters(self, channel: int = 0) -> dict[str, str]:
        at = self.keys.channel(channel)
        found = self.client.hgetall(at.counters) | self.client.hgetall(at.agent_counters)
        return {field.decode(): value.decode() for field, value in found.items()}

    def counts(self, channel: int = 0) -> dict[str, int]:
        """Return how many tasks are in each state, from the raw keys."""
        at, counters = self.keys.channel(channel), self.counters(channel)
        claims = self.client.keys(at.claims("*"))
        return {
            "allotted": int(counters.get("allotted", 0)) + int(counters.get("foreign", 0)),
            "waiting": self.client.llen(at.waiting),
            "claimed": sum(len(unsettled_items(self.client.hgetall(key))) for key in claims),
            "delayed": self.client.zcard(at.delayed),
            "done": int(counters.get("done", 0)),
            "failed": self.client.hlen(at.failed),
            "deleted": int(counters.get("deleted", 0)),
        }

    def balanced(self, channel: int = 0) -> bool:
        counts = self.counts(channel)
        return counts.pop("allotted") == sum(counts.values())

    def waiting(self, channel: int = 0) -> list[str]:
        """Return the ids of the waiting tasks, the next one first."""
        return [id_of(item) for item in self.client.lrange(self.keys.channel(channel).waiting, 0, -1)]

    def results(self, channel: int = 0) -> list[bytes]:
        return self.client.lrange(self.keys.channel(channel).results, 0, -1)

    def capture(self, send: Callable[[], Any]) -> RawCall:
        """Return the raw call that `send` would make. Nothing is sent."""
        return self.tap.capture(send)

    def last(self) -> RawCall:
        """Return the last raw call."""
        return self.tap.log[-1]
