"""Laws 1 and 2 for random sequences of calls, compared with a model that knows the place of each task.

After each step, the test reads the raw keys at one instant and compares them with the model: every allotted task is in
exactly one place and has the right attempt and crashes; the counters are balanced; each result is recorded once.

`HYPOTHESIS_PROFILE=long` runs many more and longer sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
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
    LARGE,
    ById,
    Outcome,
    World,
    crashed,
    done,
    handed_back,
    id_of,
    reason,
    result_of,
    saved,
)
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import ConcurrentChange, LeaseLost, Superseded
from worker_agent.protocol.served_channels import Served, served_numbers
from worker_agent.protocol.settlements import (
    CRASHED,
    DONE,
    FAILED,
    HANDED_BACK,
    SAVED,
    UNDECODABLE,
    failure,
    unsettled_items,
)

CHANNELS, DEVICES, RETRIES = 2, 4, 2
TRACED = [wire.pack({"error": "ValueError", "traceback": f"line {line}"}) for line in (1, 2)]
"""Reasons with two tracebacks."""
HOUR_MS = 3_600_000
OUTCOMES: dict[bytes, Callable[[str], list[Outcome]]] = {
    DONE: done, SAVED: saved, HANDED_BACK: handed_back, CRASHED: crashed,
    FAILED: lambda id_: [(id_, FAILED, failure(TRACED[int(id_[-2:]) % 2]))],
    UNDECODABLE: lambda id_: [(id_, UNDECODABLE, TRACED[int(id_[-2:]) % 2])],
}  # fmt: skip
LEASE_MS = 3_600_000
SERVED: list[Served] = [None, (0, 1), (1, 0), (1,)]
"""The channels that the agent of each device serves."""

KINDS = st.sampled_from(
    [
        [DONE], [FAILED], [DONE, SAVED], [DONE, FAILED, UNDECODABLE, HANDED_BACK, CRASHED], [FAILED, HANDED_BACK],
        [UNDECODABLE], [CRASHED],
    ]
)  # fmt: skip
"""The outcomes from which each task of a call gets one."""
channels = st.integers(0, CHANNELS - 1)
devices = st.integers(0, DEVICES - 1)


@dataclass
class Task:
    """The place of a task, and the counters in its header."""

    place: str
    attempt: int = 0
    crashes: int = 0
    retries: int = RETRIES


@dataclass
class Channel:
    """The expected content of a channel."""

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
class Agent:
    """One agent: its broker, and whether it is registered."""

    broker: ById
    channels: tuple[int, ...]
    """The channels that it serves."""
    claims_from: set[int]
    """The channels that count it among their agents."""
    alive: bool = True
    expired: bool = False

    @property
    def place(self) -> str:
        return f"claimed by {self.broker.actor.id}"


def unpack_all(packed: bytes) -> list[Any]:
    """Return the values that follow each other in `packed`."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed)
    return list(unpacker)


def has_header(item: bytes) -> bool:
    """Return whether the item has a header."""
    try:
        list_item.parse(item)
    except wire.Undecodable:
        return False
    return True


class Namespace(RuleBasedStateMachine):
    """Agents that serve one or two channels, servers that replace each other, and a person at a command line."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.world = World(self.client, retries=RETRIES, lease_ms=LEASE_MS, autostart=True)
        self.model = [Channel() for _ in range(CHANNELS)]
        self.ctl = self.world.operator()
        self.delay = 0
        self.desired_allot = ""
        self.paused: set[int] = set()
        self.all_agents: list[Agent] = []
        self.on_device: dict[int, Agent] = {}
        self.former_servers: list[Broker] = []
        for device in range(DEVICES):
            self.register(device)
        for channel in range(CHANNELS):
            self.allot(channel, 8, False)

    # The server

    @rule(channel=channels, count=st.integers(0, 12), ends=st.booleans())
    def allot(self, channel: int, count: int, ends: bool) -> None:
        model = self.model[channel]
        tasks = [self.new_task(model.cursor + number) for number in range(count)]
        items = [
            list_item.with_options(
                list_item.header(self.world.run.id, model.cursor + number, task.attempt, task.crashes)
                + wire.pack(LARGE if number % 3 == 2 else "body"),
                list_item.Options(
                    retries=task.retries if task.retries != RETRIES else None,
                    delay_ms=HOUR_MS if task.place == "delayed" else None,
                ),
            )
            for number, task in enumerate(tasks)
        ]
        items = self.world.stored(channel, items)
        before = len(model.at("waiting")) + model.foreign_waiting
        answer = self.world.server.allot(channel, model.cursor, items, exhausted=ends)
        room = max(0, model.capacity - before)
        places = [task.place == "waiting" for task in tasks]
        fit = next((n for n in range(count) if sum(places[: n + 1]) > room), count)
        assert answer.taken == (0 if self.desired_allot else fit)
        assert answer.waiting == before + sum(places[: answer.taken])
        model.tasks |= {id_of(item): task for item, task in zip(items[: answer.taken], tasks, strict=False)}
        model.cursor += answer.taken

    def new_task(self, number: int) -> Task:
        """Return a task. Some have attempts or crashes already, so few steps lead to a last retry or third crash."""
        special = {
            1: Task("waiting", attempt=RETRIES),
            3: Task("waiting", crashes=2),
            4: Task("waiting", retries=0),
            6: Task("delayed", retries=1),
        }
        return special.get(number % 7, Task("waiting"))

    @rule(channel=channels, off=st.sampled_from([-3, -1, 1, 2]))
    def allot_from_another_count(self, channel: int, off: int) -> None:
        cursor = self.model[channel].cursor + off
        items = self.world.items(max(0, cursor), 3)
        self.changes_nothing(lambda: self.world.server.allot(channel, cursor, items), ConcurrentChange)

    @precondition(lambda self: self.former_servers)
    @rule(channel=channels)
    def skip_item(self, channel: int) -> None:
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

    # Agents

    def choose(self, data: st.DataObject, condition: Callable[[Agent], bool]) -> Agent | None:
        """Choose one of the present and former agents for which the condition holds."""
        choice = [agent for agent in self.all_agents if condition(agent)]
        return data.draw(st.sampled_from(choice)) if choice else None

    def holds(self, agent: Agent) -> bool:
        """Return whether the agent is alive and has claimed tasks."""
        return agent.alive and bool(self.holds_in(agent))

    def holds_in(self, agent: Agent) -> list[int]:
        """Return the channels from which the agent has claimed tasks."""
        return [channel for channel, model in enumerate(self.model) if model.at(agent.place)]

    @rule(data=st.data(), want=st.integers(1, 8))
    def claim(self, data: st.DataObject, want: int) -> None:
        if agent := self.choose(data, lambda agent: agent.alive):
            self.settle(agent, data.draw(st.sampled_from(agent.channels)), [], want)

    @rule(data=st.data(), want=st.integers(0, 8), kinds=KINDS)
    def settle_and_claim(self, data: st.DataObject, want: int, kinds: list[bytes]) -> None:
        if agent := self.choose(data, self.holds):
            channel = data.draw(st.sampled_from(self.holds_in(agent)))
            self.settle(agent, channel, self.outcomes(data, agent, channel, kinds), want)

    @rule(data=st.data(), rounds=st.lists(KINDS, min_size=1, max_size=4))
    def work(self, data: st.DataObject, rounds: list[list[bytes]]) -> None:
        """Let an agent work for some rounds, so that tasks get to every place."""
        if agent := self.choose(data, lambda agent: agent.alive):
            for kinds in rounds:
                for channel in agent.channels:
                    self.settle(agent, channel, [], 4)
                for channel in self.holds_in(agent):
                    self.settle(agent, channel, self.outcomes(data, agent, channel, kinds), 0)

    def outcomes(
        self, data: st.DataObject, agent: Agent, channel: int, kinds: list[bytes]
    ) -> list[tuple[str, bytes]]:
        claimed = self.model[channel].at(agent.place)
        if not claimed:
            return []
        chosen = data.draw(st.lists(st.sampled_from(claimed), unique=True, min_size=1))
        return [(id_, data.draw(st.sampled_from(kinds))) for id_ in chosen]

    @rule(channel=channels, data=st.data(), twice=st.booleans(), kind=st.sampled_from(list(OUTCOMES)))
    def settle_tasks_that_may_not_be_claimed(
        self, channel: int, data: st.DataObject, twice: bool, kind: bytes
    ) -> None:
        if agent := self.choose(data, lambda agent: True):
            ids = [*list(self.model[channel].tasks)[-12:], "unknown0000000000000"]
            chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3))
            self.settle(agent, channel, [(id_, kind) for id_ in chosen * (1 + twice)], 0)

    def settle(self, agent: Agent, channel: int, outcomes: list[tuple[str, bytes]], want: int) -> None:
        model = self.model[channel]
        others = [other for other in range(CHANNELS) if other != channel]
        elsewhere = [
            self.model[other].tasks[id_] for other in others for id_ in self.model[other].at(agent.place)
        ]
        if any(task.crashes for task in elsewhere):
            want = 0  # A task that crashed runs alone.
        # A broker sends settlements in the order in which the tasks were claimed.
        outcomes = sorted(outcomes, key=lambda outcome: agent.broker.place_of(channel, outcome[0]))
        settlements = [part for id_, kind in outcomes for part in OUTCOMES[kind](id_)]
        if not agent.alive:
            self.changes_nothing(lambda: agent.broker.settle_and_claim(channel, settlements, want), LeaseLost)
            return
        claim = agent.broker.settle_and_claim(
            channel, settlements, want, others=others, held_elsewhere=len(elsewhere)
        )
        agent.expired = False
        refused = sum(not self.settle_in_model(agent, channel, id_, kind) for id_, kind in outcomes)
        assert claim.refused == refused
        assert claim.waiting_elsewhere == tuple(self.waiting_in_model(other) for other in others)
        self.move_foreign_in_model(channel)
        for item in claim.items:
            task = model.tasks[id_of(item)]
            assert task.place == "waiting", f"{id_of(item)} was {task.place}"
            task.place = agent.place
        assert len(claim.items) <= want
        assert channel not in self.paused or not claim.items

    def waiting_in_model(self, channel: int) -> int:
        """Return how many items a call in another channel finds waiting in this one."""
        model = self.model[channel]
        return 0 if channel in self.paused else len(model.at("waiting")) + model.foreign_waiting

    def settle_in_model(self, agent: Agent, channel: int, id_: str, kind: bytes) -> bool:
        """Settle in the model. Return whether the agent had claimed the task."""
        model = self.model[channel]
        task = model.tasks.get(id_)
        if task is None or task.place != agent.place:
            return False
        if kind in (DONE, SAVED):
            task.place = "done"
            if kind == DONE:
                model.results.append(result_of(id_, 0))
        elif kind == HANDED_BACK:
            task.place = "waiting"
        elif kind == CRASHED:
            task.crashes += 1
            task.place = "failed" if task.crashes >= 3 else "waiting"
        else:
            task.attempt += 1
            if kind == UNDECODABLE or task.attempt > task.retries:
                task.place = "failed"
            else:
                task.place = "delayed" if self.delay else "waiting"
        return True

    def move_foreign_in_model(self, channel: int) -> None:
        model = self.model[channel]
        seen = int(self.client.hget(self.world.keys.channel(channel).agent_counters, "foreign") or 0)
        for number in range(model.foreign + 1, seen + 1):
            model.tasks[f"foreign0{number:012d}"] = Task("failed")
            model.foreign_waiting -= 1
        model.foreign = seen

    @rule(device=devices, claims_from=st.sets(channels), not_from=st.sets(channels))
    def heartbeat(self, device: int, claims_from: set[int], not_from: set[int]) -> None:
        agent = self.on_device[device]
        not_from -= claims_from

        def send() -> None:
            agent.broker.heartbeat(device, b"heartbeat", claims_from=claims_from, not_from=not_from)

        if agent.alive:
            send()
            agent.expired = False
            agent.claims_from = (agent.claims_from | claims_from) - not_from
        else:
            self.changes_nothing(send, LeaseLost)

    @rule(data=st.data())
    def lease_ends(self, data: st.DataObject) -> None:
        if agent := self.choose(data, self.holds):
            self.world.expire(agent.broker)
            agent.expired = True

    @rule(device=devices, deaths=st.integers(1, 3))
    def agents_die_on_a_device(self, device: int, deaths: int) -> None:
        for _ in range(deaths):
            agent = self.on_device[device]
            if agent.alive:
                for channel in agent.channels:
                    self.settle(agent, channel, [], 3)
                self.world.expire(agent.broker)
                agent.expired = True
            assert self.ctl.recover(agent.broker.actor.id, reason("crashed")) == self.recover_in_model(agent)
            self.register(device)

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """Recover any present or former agent. Only one that is fenced or whose lease ended loses its tasks."""
        agent = data.draw(st.sampled_from(self.all_agents))
        moved = self.ctl.recover(agent.broker.actor.id, reason("crashed"))
        assert moved == self.recover_in_model(agent)

    @rule(channel=channels, data=st.data())
    def a_recoverer_dies_after_one_channel(self, channel: int, data: st.DataObject) -> None:
        if agent := self.choose(data, lambda agent: bool(self.holds_in(agent))):
            actor = agent.broker.actor.id
            first = self.world.capture(
                lambda: self.ctl.recover(actor, reason("crashed"), claims_in=[channel])
            )
            reply = first.send(self.client)
            assert reply[0] == (b"alive" if agent.alive and not agent.expired else b"ok")
            self.recover_in_model(agent, [channel])

    def recover_in_model(self, agent: Agent, recovered: Iterable[int] = range(CHANNELS)) -> int:
        """Recover the tasks of some channels in the model. Return how many tasks move."""
        if agent.alive and not agent.expired:
            return 0
        agent.alive = False
        agent.claims_from.clear()
        moved = 0
        for channel in recovered:
            model = self.model[channel]
            for id_ in model.at(agent.place):
                task = model.tasks[id_]
                task.crashes += 1
                task.place = "failed" if task.crashes >= 3 else "waiting"
                moved += 1
        return moved

    @rule()
    def sweep(self) -> None:
        self.client.hset(self.world.keys.fleet, "swept_ms", self.ctl.now_ms() - 1_100)
        found = dict(self.ctl.sweep(CHANNELS).dead)
        by_id = {agent.broker.actor.id: agent for agent in self.all_agents}
        lost = {
            actor
            for actor, agent in by_id.items()
            if (agent.expired and agent.alive) or (not agent.alive and self.holds_in(agent))
        }
        assert lost <= set(found)
        for actor, claims_in in sorted(found.items()):
            agent = by_id[actor]
            assert claims_in == self.holds_in(agent)
            moved = self.ctl.recover(actor, reason("crashed"), channels=CHANNELS, claims_in=claims_in)
            assert moved == self.recover_in_model(agent)

    @precondition(lambda self: any(self.holds(agent) for agent in self.on_device.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from([d for d in range(DEVICES) if self.holds(self.on_device[d])]))
        agent = self.on_device[device]
        agent.broker.leave(device, CHANNELS)
        agent.alive = False
        agent.claims_from.clear()

    @precondition(
        lambda self: not all(agent.alive and not agent.expired for agent in self.on_device.values())
    )
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        """Register a new agent on a device whose agent left, died or is silent."""
        gone = [device for device, agent in self.on_device.items() if agent.expired or not agent.alive]
        self.register(data.draw(st.sampled_from(gone)))

    @rule(device=devices)
    def join_in_place_of_a_process_that_ended(self, device: int) -> None:
        if self.holds(self.on_device[device]):
            self.register(device)

    def register(self, device: int) -> None:
        holder = self.ctl.actor_on(device)
        for agent in self.all_agents:
            if agent.broker.actor.id == holder:
                agent.alive = False
        served = SERVED[device]
        broker = self.world.agent(device, served, holder=holder, gone=True)
        numbers = served_numbers(served, CHANNELS)
        self.on_device[device] = Agent(broker, numbers, set(numbers))
        self.all_agents.append(self.on_device[device])

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

    # People

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels)
    def reload_all(self, channel: int) -> None:
        model = self.model[channel]
        with_header = [id_ for id_ in model.at("failed") if not self.is_foreign(channel, id_)]
        assert self.ctl.reload_all(channel) == len(with_header)
        for id_ in with_header:
            model.tasks[id_] = Task("waiting", retries=model.tasks[id_].retries)

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def reload(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        ids = self.draw_ids(channel, data)
        with_header = {id_ for id_ in ids if id_ in model.at("failed") and not self.is_foreign(channel, id_)}
        assert self.ctl.reload(channel, ids) == len(with_header)
        for id_ in with_header:
            model.tasks[id_] = Task("waiting", retries=model.tasks[id_].retries)

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def delete(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        ids = self.draw_ids(channel, data)
        there = set(ids) & set(model.at("failed"))
        assert self.ctl.delete(channel, ids) == len(there)
        for id_ in there:
            model.tasks[id_].place = "deleted"

    @precondition(lambda self: any(model.at("failed") for model in self.model))
    @rule(channel=channels, data=st.data())
    def edit(self, channel: int, data: st.DataObject) -> None:
        model = self.model[channel]
        for id_ in self.draw_ids(channel, data)[:1]:
            there = id_ in model.at("failed")
            assert (
                self.ctl.edit(channel, id_, wire.pack(data.draw(st.sampled_from(["edited", LARGE])))) == there
            )
            if there:
                model.tasks[id_] = Task("waiting", retries=model.tasks[id_].retries)

    def draw_ids(self, channel: int, data: st.DataObject) -> list[str]:
        """Draw ids of failed tasks and of other tasks."""
        model = self.model[channel]
        others = [id_ for id_ in model.tasks if model.tasks[id_].place != "failed"][-3:]
        choice = [*model.at("failed"), *others, "unknown0000000000000"]
        return data.draw(st.lists(st.sampled_from(choice), max_size=6))

    def is_foreign(self, channel: int, id_: str) -> bool:
        """Return whether the failed item of this id still has no header."""
        item = self.client.hget(self.world.keys.channel(channel).failed, id_)
        return item is not None and not has_header(item)

    @precondition(lambda self: any(len(model.results) > model.drained for model in self.model))
    @rule(channel=channels, count=st.integers(0, 4))
    def drain(self, channel: int, count: int) -> None:
        model = self.model[channel]
        drained = self.ctl.drain(channel, model.drained, count)
        assert drained == min(count, len(model.results) - model.drained)
        model.drained += drained

    @precondition(lambda self: any(model.drained for model in self.model))
    @rule()
    def drain_results_that_were_drained_before(self) -> None:
        channel = next(c for c in range(CHANNELS) if self.model[c].drained)
        offset = self.model[channel].drained - 1
        self.changes_nothing(lambda: self.ctl.drain(channel, offset, 5), ConcurrentChange)

    @rule(
        channel=channels,
        change=st.one_of(
            st.tuples(st.just("capacity"), st.integers(1, 20)),
            st.tuples(st.just("channel"), st.sampled_from(["", "", "paused"])),
            st.tuples(st.just("allot"), st.sampled_from(["", "", "paused", "ended"])),
            st.tuples(st.just("delay"), st.sampled_from([0, HOUR_MS])),
        ),
    )
    def a_person_changes_a_setting(self, channel: int, change: tuple[str, Any]) -> None:
        what, value = change
        if what == "capacity":
            self.ctl.set_capacity(channel, value)
            self.model[channel].capacity = value
        elif what == "channel":
            self.ctl.set_desired(self.world.keys.desired_channels, {str(channel): value})
            (self.paused.add if value else self.paused.discard)(channel)
        elif what == "allot":
            self.ctl.set_desired(self.world.keys.desired_server, {"allot": value})
            self.desired_allot = value
        else:
            self.client.hset(self.world.keys.meta, "retry", f"{RETRIES} {value} 1 {HOUR_MS} 0 - -")
            self.delay = value

    @rule(channel=channels, text=st.sampled_from([b"", b"foreign", b"M1foreign", b"\xff" * 30]))
    def somebody_pushes_a_foreign_item(self, channel: int, text: bytes) -> None:
        """A foreign item is counted as allotted only when it is claimed."""
        self.client.rpush(self.world.keys.channel(channel).waiting, text)
        self.model[channel].foreign_waiting += 1

    # The network

    @rule()
    def the_last_call_comes_twice(self) -> None:
        self.send_again(self.world.tap.log[-1])

    @rule(data=st.data())
    def an_earlier_call_comes_late(self, data: st.DataObject) -> None:
        log = self.world.tap.log
        back = data.draw(st.integers(1, min(len(log), 200)))
        self.send_again(log[-back])

    def send_again(self, call: RawCall) -> None:
        before = dump(self.client) if call.name in NUMBERED else None
        reply = call.send(self.client)
        if before is not None:
            assert dump(self.client) == before
        elif call.name == "recover":
            agent = next(h for h in self.all_agents if h.broker.actor.id == call.args[0])
            self.recover_in_model(agent, self.channels_with("agents", call.keys[3:4]))
            assert reply[0] in (b"ok", b"alive")
        elif call.name == "heartbeat" and reply[0] == b"ok":
            agent = next(h for h in self.all_agents if h.broker.actor.id == call.args[0])
            agent.expired = False
            behind = 12 + int(call.args[3])
            agent.claims_from |= self.channels_with("agents", call.keys[12:behind])
            agent.claims_from -= self.channels_with("agents", call.keys[behind:])
        elif call.name == "leave":
            for agent in self.all_agents:
                if agent.broker.actor.id == call.args[0]:
                    agent.alive = False
                    agent.claims_from.clear()

    def channels_with(self, attribute: str, keys: Sequence[str]) -> set[int]:
        """Return the channels that have one of these keys as this attribute."""
        return {c for c in range(CHANNELS) if getattr(self.world.keys.channel(c), attribute) in keys}

    # Checks after each step

    def changes_nothing(self, call: Any, error: type[Exception]) -> None:
        before = dump(self.client)
        with pytest.raises(error):
            call()
        assert dump(self.client) == before

    @invariant()
    def every_task_is_in_exactly_one_place(self) -> None:
        actors = [agent.broker.actor.id for agent in self.all_agents]
        held_by: dict[str, list[bytes]] = {}
        for channel, model in enumerate(self.model):
            at = self.world.keys.channel(channel)
            pipe = self.client.pipeline(transaction=True)
            pipe.hgetall(at.counters).lrange(at.waiting, 0, -1).zrange(at.delayed, 0, -1).hgetall(at.failed)
            pipe.lrange(at.results, 0, -1).hgetall(at.claim_counts).llen(at.token)
            pipe.zrange(at.failed_at, 0, -1).hkeys(at.reasons).hkeys(at.retry_reasons)
            pipe.hgetall(at.agent_counters).zrange(at.agents, 0, -1)
            pipe.hvals(at.reasons).hgetall(at.traces).hgetall(at.trace_uses)
            for actor in actors:
                pipe.hgetall(at.claims(actor))
            (
                counters,
                waiting,
                delayed,
                failed_items,
                results,
                claim_counts,
                tokens,
                failed_at,
                reasons,
                retry_reasons,
                agent_counters,
                agents,
                packed_reasons,
                traces,
                trace_uses,
                *claims,
            ) = pipe.execute()
            counters |= agent_counters

            foreign = [item for item in waiting if not has_header(item)]
            assert len(foreign) == model.foreign_waiting
            found: list[tuple[str, str, bytes]] = [
                (id_of(item), "waiting", item) for item in waiting if item not in foreign
            ]
            found += [(id_of(item), "delayed", item) for item in delayed]
            found += [(id_.decode(), "failed", item) for id_, item in failed_items.items()]
            claimed = [unsettled_items(fields) for fields in claims]
            for actor, held in zip(actors, claimed, strict=True):
                found += [(id_of(item), f"claimed by {actor}", item) for item in held]
                assert int(claim_counts.get(actor.encode(), 0)) == len(held)
                held_by.setdefault(actor, []).extend(held)
            assert set(agents) == {
                agent.broker.actor.id.encode() for agent in self.all_agents if channel in agent.claims_from
            }
            assert set(claim_counts) <= {actor.encode() for actor in actors}

            assert max(Counter(id_ for id_, _, _ in found).values(), default=1) == 1
            assert {id_: place for id_, place, _ in found} == {
                id_: task.place for id_, task in model.tasks.items() if task.place not in ("done", "deleted")
            }
            assert not self.ctl.bodies.missing(self.ctl.bodies.keys(channel, [item for _, _, item in found]))
            for id_, _, item in found:
                if has_header(item):
                    parsed, task = list_item.parse(item), model.tasks[id_]
                    assert (parsed.id, parsed.attempt, parsed.crashes) == (id_, task.attempt, task.crashes)

            counts = Counter(task.place.partition(" ")[0] for task in model.tasks.values())
            allotted = int(counters.get(b"allotted", 0)) + int(counters.get(b"foreign", 0))
            assert allotted == len(model.tasks) == counts.total()
            assert int(counters.get(b"done", 0)) == counts["done"]
            assert int(counters.get(b"deleted", 0)) == counts["deleted"]
            counted = sum(int(counters.get(name, 0)) for name in (b"done", b"deleted"))
            kept = len(waiting) - len(foreign) + len(delayed) + len(failed_items)
            assert allotted == kept + sum(map(len, claimed)) + counted
            assert int(counters.get(b"cursor", 0)) == model.cursor

            assert results == model.results[model.drained :]
            assert max(Counter(line[2:22] for line in model.results).values(), default=1) == 1
            assert set(failed_at) == set(failed_items)
            assert set(reasons) == {id_ for id_ in failed_items if not id_.startswith(b"foreign")}
            assert set(retry_reasons) <= {id_.encode() for id_, place, _ in found if place != "failed"}
            assert tokens <= 1
            uses = Counter(
                fields["trace"].encode()
                for packed in packed_reasons
                for fields in unpack_all(packed)
                if "trace" in fields
            )
            assert {digest: int(count) for digest, count in trace_uses.items()} == uses
            assert set(traces) == set(uses)
        for items in held_by.values():
            if any(list_item.parse(item).crashes for item in items):
                assert len(items) == 1, "a recovered task is claimed alone"


@pytest.mark.timeout(600)
def test_the_counters_stay_balanced_whatever_actors_and_networks_do(client: redis.Redis) -> None:
    class OnThisServer(Namespace):
        pass

    OnThisServer.client = client
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(max_examples=examples(60), stateful_step_count=120 if LONG else 50),
    )
