"""Laws 1 and 2 over random sequences of what actors do, against a model that knows where each task is.

After each step the raw keys are read at one instant and compared with the model: every allotted task is in exactly
one place, with the counters that it should have; the books balance; each result was recorded once.

`HYPOTHESIS_PROFILE=long` runs many more and longer sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.protocol.examples import LONG, examples
from tests.protocol.tap import RawCall, dump
from tests.protocol.valid_calls import NUMBERED
from tests.protocol.world import (
    NOWHERE,
    ById,
    World,
    crashed,
    done,
    failed,
    failed_for_good,
    handed_back,
    id_of,
    reason,
    result_of,
    saved,
)
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import ConcurrentChange, LeaseLost, Superseded
from worker_agent.protocol.settlements import unsettled_items

CHANNELS, DEVICES, RETRIES = 2, 4, 2
OUTCOMES = {"d": done, "s": saved, "f": failed, "x": failed_for_good, "b": handed_back, "c": crashed}
LEASE_MS = 3_600_000

KINDS = st.sampled_from(["d", "f", "ds", "dfxbc", "fb", "x", "c"])
channels = st.integers(0, CHANNELS - 1)
devices = st.integers(0, DEVICES - 1)


@dataclass
class Task:
    """Where a task is, and its header's counters."""

    place: str
    attempt: int = 0
    crashes: int = 0


@dataclass
class Channel:
    """What a channel should hold."""

    tasks: dict[str, Task] = field(default_factory=dict)
    cursor: int = 0
    capacity: int = 50
    foreign_waiting: int = 0
    foreign: int = 0
    results: list[bytes] = field(default_factory=list)
    drained: int = 0
    allot: str = ""

    def at(self, place: str) -> list[str]:
        return [id_ for id_, task in self.tasks.items() if task.place == place]


@dataclass
class Hands:
    """One agent: its broker, and whether it was declared dead or left."""

    broker: ById
    channel: int
    alive: bool = True
    expired: bool = False

    @property
    def place(self) -> str:
        return f"claimed by {self.broker.actor.id}"


def is_ours(item: bytes) -> bool:
    """Whether the item has a header."""
    try:
        wire.parse(item)
    except wire.Undecodable:
        return False
    return True


class Books(RuleBasedStateMachine):
    """Agents of two channels, servers that succeed one another, and a person at a command line."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.world = World(self.client, retries=RETRIES, lease_ms=LEASE_MS, autostart=True)
        self.model = [Channel() for _ in range(CHANNELS)]
        self.ctl = self.world.operator()
        self.delay = 0
        self.allot_wish = ""
        self.paused: set[int] = set()
        self.everybody: list[Hands] = []
        self.on: dict[int, Hands] = {}
        self.former_servers: list[Broker] = []
        for device in range(DEVICES):
            self.come(device)
        for channel in range(CHANNELS):
            self.allot(channel, 8, False)

    # --- What servers do ------------------------------------------------------------------------------

    @rule(channel=channels, count=st.integers(0, 12), ends=st.booleans())
    def allot(self, channel: int, count: int, ends: bool) -> None:
        model = self.model[channel]
        tasks = [self.task(model.cursor + number) for number in range(count)]
        items = [
            wire.header(self.world.run.id, model.cursor + number, task.attempt, task.crashes)
            + wire.pack("body")
            for number, task in enumerate(tasks)
        ]
        before = len(model.at("waiting")) + model.foreign_waiting
        answer = self.world.server.allot(channel, model.cursor, items, exhausted=ends)
        room = max(0, model.capacity - before)
        assert answer.taken == (0 if self.allot_wish else min(count, room))
        assert answer.waiting == before + answer.taken
        model.tasks |= {id_of(item): task for item, task in zip(items[: answer.taken], tasks, strict=False)}
        model.cursor += answer.taken

    def task(self, number: int) -> Task:
        """Some tasks come with a past, so that few steps lead to a last retry or a third crash."""
        return {1: Task("waiting", attempt=RETRIES), 3: Task("waiting", crashes=2)}.get(
            number % 5, Task("waiting")
        )

    @rule(channel=channels, off=st.sampled_from([-3, -1, 1, 2]))
    def allot_from_another_count(self, channel: int, off: int) -> None:
        cursor = self.model[channel].cursor + off
        self.changes_nothing(
            lambda: self.world.server.allot(channel, cursor, self.world.items(max(0, cursor), 3)),
            ConcurrentChange,
        )

    @precondition(lambda self: self.former_servers)
    @rule(channel=channels)
    def skip(self, channel: int) -> None:
        self.world.server.skip_item(channel, self.model[channel].cursor)
        self.model[channel].cursor += 1

    @rule()
    def a_successor_takes_over(self) -> None:
        self.former_servers.append(self.world.server)
        self.world.successor(capacity=None, retries=RETRIES, retry_delay_ms=self.delay)
        assert self.world.run.resumed

    @precondition(lambda self: self.former_servers)
    @rule(channel=channels, data=st.data())
    def a_former_server_wakes(self, channel: int, data: st.DataObject) -> None:
        server = data.draw(st.sampled_from(self.former_servers))
        cursor = self.model[channel].cursor
        self.changes_nothing(lambda: server.allot(channel, cursor, self.world.items(cursor, 2)), Superseded)

    # --- What agents do -------------------------------------------------------------------------------

    def choose(self, data: st.DataObject, those: Callable[[Hands], bool]) -> Hands | None:
        """One of the actors for whom it is true, the present ones and those of old."""
        choice = [hands for hands in self.everybody if those(hands)]
        return data.draw(st.sampled_from(choice)) if choice else None

    def holds(self, hands: Hands) -> bool:
        """Whether the agent lives and has tasks in hand."""
        return hands.alive and bool(self.model[hands.channel].at(hands.place))

    @rule(data=st.data(), want=st.integers(1, 8))
    def claim(self, data: st.DataObject, want: int) -> None:
        if hands := self.choose(data, lambda hands: hands.alive):
            self.exchange(hands, [], want)

    @rule(data=st.data(), want=st.integers(0, 8), kinds=KINDS)
    def settle_and_claim(self, data: st.DataObject, want: int, kinds: str) -> None:
        if hands := self.choose(data, self.holds):
            self.exchange(hands, self.outcomes(data, hands, kinds), want)

    @rule(data=st.data(), rounds=st.lists(KINDS, min_size=1, max_size=4))
    def work(self, data: st.DataObject, rounds: list[str]) -> None:
        """Some rounds of an agent's work, which bring it about that tasks are in every place."""
        if hands := self.choose(data, lambda hands: hands.alive):
            for kinds in rounds:
                self.exchange(hands, [], 4)
                self.exchange(hands, self.outcomes(data, hands, kinds), 0)

    def outcomes(self, data: st.DataObject, hands: Hands, kinds: str) -> list[tuple[str, str]]:
        mine = self.model[hands.channel].at(hands.place)
        if not mine:
            return []
        chosen = data.draw(st.lists(st.sampled_from(mine), unique=True, min_size=1))
        return [(id_, data.draw(st.sampled_from(kinds))) for id_ in chosen]

    @rule(data=st.data(), twice=st.booleans(), kind=st.sampled_from("dsfxbc"))
    def settle_what_is_not_theirs(self, data: st.DataObject, twice: bool, kind: str) -> None:
        if hands := self.choose(data, lambda hands: True):
            ids = [*list(self.model[hands.channel].tasks)[-12:], "nobody00000000000000"]
            chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3))
            self.exchange(hands, [(id_, kind) for id_ in chosen * (1 + twice)], 0)

    def exchange(self, hands: Hands, outcomes: list[tuple[str, str]], want: int) -> None:
        model = self.model[hands.channel]
        # A broker sends them in the order in which they were claimed.
        outcomes = sorted(outcomes, key=lambda outcome: hands.broker.places.get(outcome[0], NOWHERE))
        settlements = [part for id_, kind in outcomes for part in OUTCOMES[kind](id_)]
        if not hands.alive:
            self.changes_nothing(
                lambda: hands.broker.settle_and_claim(hands.channel, settlements, want), LeaseLost
            )
            return
        claim = hands.broker.settle_and_claim(hands.channel, settlements, want)
        hands.expired = False
        refused = sum(not self.settled(hands, id_, kind) for id_, kind in outcomes)
        assert claim.refused == refused
        self.take_away_foreign(hands.channel)
        for item in claim.items:
            task = model.tasks[id_of(item)]
            assert task.place == "waiting", f"{id_of(item)} was {task.place}"
            task.place = hands.place
        assert len(claim.items) <= want
        assert hands.channel not in self.paused or not claim.items

    def settled(self, hands: Hands, id_: str, kind: str) -> bool:
        """What a settle does to the model; whether the task was the agent's."""
        model = self.model[hands.channel]
        task = model.tasks.get(id_)
        if task is None or task.place != hands.place:
            return False
        if kind in "ds":
            task.place = "done"
            if kind == "d":
                model.results.append(result_of(id_, 0))
        elif kind == "b":
            task.place = "waiting"
        elif kind == "c":
            task.crashes += 1
            task.place = "failed" if task.crashes >= 3 else "waiting"
        else:
            task.attempt += 1
            if kind == "x" or task.attempt > RETRIES:
                task.place = "failed"
            else:
                task.place = "delayed" if self.delay else "waiting"
        return True

    def take_away_foreign(self, channel: int) -> None:
        model = self.model[channel]
        seen = int(self.client.hget(self.world.keys.channel(channel).agent_counters, "foreign") or 0)
        for number in range(model.foreign + 1, seen + 1):
            model.tasks[f"foreign0{number:012d}"] = Task("failed")
            model.foreign_waiting -= 1
        model.foreign = seen

    @rule(data=st.data(), state=st.sampled_from(["running", "running", "paused"]))
    def report(self, data: st.DataObject, state: Any) -> None:
        device = data.draw(devices)
        hands = self.on[device]
        if hands.alive:
            hands.broker.heartbeat(device, hands.channel, state, b"heartbeat")
            hands.expired = False
        else:
            self.changes_nothing(
                lambda: hands.broker.heartbeat(device, hands.channel, state, b"heartbeat"), LeaseLost
            )

    @rule(data=st.data())
    def lease_runs_out(self, data: st.DataObject) -> None:
        if hands := self.choose(data, self.holds):
            self.world.expire(hands.broker)
            hands.expired = True

    @rule(device=devices, deaths=st.integers(1, 3))
    def agents_die_on_a_device(self, device: int, deaths: int) -> None:
        for _ in range(deaths):
            hands = self.on[device]
            if hands.alive:
                self.exchange(hands, [], 3)
                self.world.expire(hands.broker)
                hands.expired = True
            assert self.ctl.recover(hands.broker.actor.id, reason("crashed")) == self.recovered(hands)
            self.come(device)

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """Of anybody who ever was: only those whose lease ran out, or who are dead, lose their tasks."""
        hands = data.draw(st.sampled_from(self.everybody))
        moved = self.ctl.recover(hands.broker.actor.id, reason("crashed"))
        assert moved == self.recovered(hands)

    def recovered(self, hands: Hands) -> int:
        """What recovery does to the model; how many tasks it moves."""
        if hands.alive and not hands.expired:
            return 0
        hands.alive = False
        model = self.model[hands.channel]
        claimed = model.at(hands.place)
        for id_ in claimed:
            task = model.tasks[id_]
            task.crashes += 1
            task.place = "failed" if task.crashes >= 3 else "waiting"
        return len(claimed)

    @rule()
    def sweep(self) -> None:
        self.client.hset(self.world.keys.fleet, "swept_ms", self.ctl.now_ms() - 1_100)
        found = set(self.ctl.sweep(CHANNELS).dead)
        by_id = {hands.broker.actor.id: hands for hands in self.everybody}
        lost = {
            actor
            for actor, hands in by_id.items()
            if (hands.expired and hands.alive)
            or (not hands.alive and self.model[hands.channel].at(hands.place))
        }
        assert lost <= found
        for actor in sorted(found):
            assert self.ctl.recover(actor, reason("crashed")) == self.recovered(by_id[actor])

    @precondition(lambda self: any(self.holds(hands) for hands in self.on.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from([d for d in range(DEVICES) if self.holds(self.on[d])]))
        hands = self.on[device]
        hands.broker.leave(device, hands.channel)
        hands.alive = False

    @precondition(lambda self: not all(hands.alive and not hands.expired for hands in self.on.values()))
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        """A newcomer on a device whose agent left, died or is silent."""
        gone = [device for device, hands in self.on.items() if hands.expired or not hands.alive]
        self.come(data.draw(st.sampled_from(gone)))

    @rule(device=devices)
    def join_instead_of_a_process_that_ended(self, device: int) -> None:
        if self.holds(self.on[device]):
            self.come(device)

    def come(self, device: int) -> None:
        holder = self.ctl.actor_on(device)
        for hands in self.everybody:
            if hands.broker.actor.id == holder:
                hands.alive = False
        agent = self.world.agent(device, device % CHANNELS, holder=holder, gone=True)
        self.on[device] = Hands(agent, device % CHANNELS)
        self.everybody.append(self.on[device])

    @precondition(lambda self: any(model.at("delayed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def promote(self, channel: int, data: st.DataObject) -> None:
        model, at = self.model[channel], self.world.keys.channel(channel)
        delayed = model.at("delayed")
        due = set(data.draw(st.lists(st.sampled_from(delayed), unique=True))) if delayed else set()
        for item in self.client.zrange(at.delayed, 0, -1):
            if id_of(item) in due:
                self.client.zadd(at.delayed, {item: 1})
        assert self.ctl.promote(channel) == len(due)
        for id_ in due:
            model.tasks[id_].place = "waiting"

    # --- What people do -------------------------------------------------------------------------------

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels)
    def reload_all(self, channel: int) -> None:
        model = self.model[channel]
        ours = [id_ for id_ in model.at("failed") if not self.is_foreign(channel, id_)]
        assert self.ctl.reload_all(channel) == len(ours)
        for id_ in ours:
            model.tasks[id_] = Task("waiting")

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def reload(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        ids = self.some(channel, data)
        ours = {id_ for id_ in ids if id_ in model.at("failed") and not self.is_foreign(channel, id_)}
        assert self.ctl.reload(channel, ids) == len(ours)
        for id_ in ours:
            model.tasks[id_] = Task("waiting")

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def delete(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        ids = self.some(channel, data)
        there = set(ids) & set(model.at("failed"))
        assert self.ctl.delete(channel, ids) == len(there)
        for id_ in there:
            model.tasks[id_].place = "deleted"

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def edit(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        for id_ in self.some(channel, data)[:1]:
            there = id_ in model.at("failed")
            assert self.ctl.edit(channel, id_, wire.pack("edited")) == there
            if there:
                model.tasks[id_] = Task("waiting")

    def some(self, channel: int, data: st.DataObject) -> list[str]:
        """Ids of failed tasks and of others."""
        model = self.model[channel]
        others = [id_ for id_ in model.tasks if model.tasks[id_].place != "failed"][-3:]
        choice = [*model.at("failed"), *others, "nobody00000000000000"]
        return data.draw(st.lists(st.sampled_from(choice), max_size=6))

    def is_foreign(self, channel: int, id_: str) -> bool:
        """Whether what failed under the id is still the item without a header."""
        item = self.client.hget(self.world.keys.channel(channel).failed, id_)
        return item is not None and not is_ours(item)

    @precondition(lambda self: any(len(model.results) > model.drained for model in self.model))
    @rule(channel=channels, count=st.integers(0, 4))
    def drain(self, channel: int, count: int) -> None:
        model = self.model[channel]
        drained = self.ctl.drain(channel, model.drained, count)
        assert drained == min(count, len(model.results) - model.drained)
        model.drained += drained

    @precondition(lambda self: any(model.drained for model in self.model))
    @rule()
    def drain_what_others_drained(self) -> None:
        channel = next(c for c in range(CHANNELS) if self.model[c].drained)
        offset = self.model[channel].drained - 1
        self.changes_nothing(lambda: self.ctl.drain(channel, offset, 5), ConcurrentChange)

    @rule(
        channel=channels,
        change=st.one_of(
            st.tuples(st.just("capacity"), st.integers(1, 20)),
            st.tuples(st.just("channel"), st.sampled_from(["", "", "paused"])),
            st.tuples(st.just("allot"), st.sampled_from(["", "", "paused", "ended"])),
            st.tuples(st.just("delay"), st.sampled_from([0, 3_600_000])),
        ),
    )
    def a_person_wishes(self, channel: int, change: tuple[str, Any]) -> None:
        what, value = change
        if what == "capacity":
            self.ctl.set_capacity(channel, value)
            self.model[channel].capacity = value
        elif what == "channel":
            self.ctl.set_desired(self.world.keys.desired_channels, {str(channel): value})
            (self.paused.add if value else self.paused.discard)(channel)
        elif what == "allot":
            self.ctl.set_desired(self.world.keys.desired_server, {"allot": value})
            self.allot_wish = value
        else:
            self.client.hset(self.world.keys.meta, "retry_delay_ms", value)
            self.delay = value

    @rule(channel=channels, text=st.sampled_from([b"", b"foreign", b"M1foreign", b"\xff" * 30]))
    def somebody_pushes_a_foreign_item(self, channel: int, text: bytes) -> None:
        """Until it is claimed, waiting stands above the books by it."""
        self.client.rpush(self.world.keys.channel(channel).waiting, text)
        self.model[channel].foreign_waiting += 1

    # --- What a network does --------------------------------------------------------------------------

    @rule()
    def the_last_call_comes_twice(self) -> None:
        self.comes_again(self.world.tap.log[-1])

    @rule(data=st.data())
    def an_earlier_call_comes_late(self, data: st.DataObject) -> None:
        log = self.world.tap.log
        back = data.draw(st.integers(1, min(len(log), 200)))
        self.comes_again(log[-back])

    def comes_again(self, call: RawCall) -> None:
        before = dump(self.client) if call.name in NUMBERED else None
        reply = call.send(self.client)
        if before is not None:
            assert dump(self.client) == before
        elif call.name == "recover":
            hands = next(h for h in self.everybody if h.broker.actor.id == call.args[0])
            self.recovered(hands)
            assert reply[0] in (b"ok", b"alive")
        elif call.name == "heartbeat" and reply[0] == b"ok":
            next(h for h in self.everybody if h.broker.actor.id == call.args[0]).expired = False
        elif call.name == "leave":
            for hands in self.everybody:
                if hands.broker.actor.id == call.args[0]:
                    hands.alive = False

    # --- What holds at every instant ------------------------------------------------------------------

    def changes_nothing(self, call: Any, error: type[Exception]) -> None:
        before = dump(self.client)
        with pytest.raises(error):
            call()
        assert dump(self.client) == before

    @invariant()
    def every_task_is_in_exactly_one_place(self) -> None:
        for channel, model in enumerate(self.model):
            at = self.world.keys.channel(channel)
            actors = [h.broker.actor.id for h in self.everybody if h.channel == channel]
            pipe = self.client.pipeline(transaction=True)
            pipe.hgetall(at.counters).lrange(at.waiting, 0, -1).zrange(at.delayed, 0, -1).hgetall(at.failed)
            pipe.lrange(at.results, 0, -1).hgetall(at.claim_counts).llen(at.token)
            pipe.zrange(at.failed_at, 0, -1).hkeys(at.reasons).hkeys(at.retry_reasons).hgetall(
                at.agent_counters
            )
            for actor in actors:
                pipe.hgetall(at.claims(actor))
            (
                books,
                waiting,
                delayed,
                in_fail,
                results,
                holders,
                tokens,
                failed_at,
                reasons,
                tries,
                tally,
                *claims,
            ) = pipe.execute()
            books |= tally

            foreign = [item for item in waiting if not is_ours(item)]
            assert len(foreign) == model.foreign_waiting
            found: list[tuple[str, str, bytes]] = [
                (id_of(item), "waiting", item) for item in waiting if item not in foreign
            ]
            found += [(id_of(item), "delayed", item) for item in delayed]
            found += [(id_.decode(), "failed", item) for id_, item in in_fail.items()]
            in_hand = [unsettled_items(fields) for fields in claims]
            for actor, held in zip(actors, in_hand, strict=True):
                found += [(id_of(item), f"claimed by {actor}", item) for item in held]
                assert int(holders.get(actor.encode(), 0)) == len(held)
                if any(wire.parse(item).crashes for item in held):
                    assert len(held) == 1, "a recovered task is claimed alone"
            assert set(holders) <= {actor.encode() for actor in actors}

            assert max(Counter(id_ for id_, _, _ in found).values(), default=1) == 1
            assert {id_: place for id_, place, _ in found} == {
                id_: task.place for id_, task in model.tasks.items() if task.place not in ("done", "deleted")
            }
            for id_, _, item in found:
                if is_ours(item):
                    parsed, task = wire.parse(item), model.tasks[id_]
                    assert (parsed.id, parsed.attempt, parsed.crashes) == (id_, task.attempt, task.crashes)

            counts = Counter(task.place.partition(" ")[0] for task in model.tasks.values())
            allotted = int(books.get(b"allotted", 0)) + int(books.get(b"foreign", 0))
            assert allotted == len(model.tasks) == counts.total()
            assert int(books.get(b"done", 0)) == counts["done"]
            assert int(books.get(b"deleted", 0)) == counts["deleted"]
            on_the_books = sum(int(books.get(name, 0)) for name in (b"done", b"deleted"))
            kept = len(waiting) - len(foreign) + len(delayed) + len(in_fail)
            assert allotted == kept + sum(map(len, in_hand)) + on_the_books
            assert int(books.get(b"cursor", 0)) == model.cursor

            assert results == model.results[model.drained :]
            assert max(Counter(line[2:22] for line in model.results).values(), default=1) == 1
            assert set(failed_at) == set(in_fail)
            assert set(reasons) == {id_ for id_ in in_fail if not id_.startswith(b"foreign")}
            assert set(tries) <= {id_.encode() for id_, place, _ in found if place != "failed"}
            assert tokens <= 1


def test_the_books_balance_whatever_actors_and_networks_do(client: redis.Redis) -> None:
    class OnThisServer(Books):
        pass

    OnThisServer.client = client
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(max_examples=examples(110), stateful_step_count=120 if LONG else 50),
    )
