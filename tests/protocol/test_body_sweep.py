"""The sweep removes bodies that no list names, and no other, whatever the tasks do meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from mutitask_tui.server.body_sweep import PASSES, BodySweep
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.troubles import troubles
from tests.protocol.examples import examples
from tests.protocol.world import LARGE, ById, World, done, failed, failed_for_good, handed_back
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.bodies import Bodies, body_key, new_ending
from worker_agent.protocol.errors import RedisRefused, RedisUnavailable

UNTIL_REMOVED = PASSES + 1
"""A body is looked for in the lists from the second pass on that finds it."""


@pytest.fixture
def world(client: redis.Redis) -> World:
    """Return a namespace whose tasks have large bodies."""
    return World(client, body=LARGE, retries=3)


def sweep_of(world: World, reader: Reader) -> BodySweep:
    return BodySweep(reader, world.server, "test", least_pause_s=0.0)


@pytest.fixture
def reader(redis_url: str) -> Reader:
    return Reader(redis_url, "t")


@pytest.fixture
def sweep(world: World, reader: Reader) -> BodySweep:
    return sweep_of(world, reader)


def passes(sweep: BodySweep, count: int = 2 * UNTIL_REMOVED) -> None:
    for _ in range(count):
        sweep.sweep()


def orphan(world: World, number: int = 0, channel: int = 0, run: str = "") -> bytes:
    """Store a body that no list names, of a task that was allotted."""
    key = body_key("t", channel, f"{run or world.run.id}{number:012d}", new_ending())
    world.client.set(key, b"left behind")
    return key


def test_an_orphan_goes_after_some_passes_and_is_counted(
    world: World, sweep: BodySweep, reader: Reader
) -> None:
    world.feed(1)
    world.claim(agent := world.agent())
    world.settle(agent, *done(f"{world.run.id}{0:012d}"))
    key = orphan(world)
    passes(sweep, UNTIL_REMOVED - 1)
    assert world.bodies() == {key}
    passes(sweep, 1)
    assert world.bodies() == set()
    passes(sweep, 1)
    counts = reader.snapshot().bodies
    assert (counts.stored, counts.removed, counts.missing) == (0, 1, 0) and counts.at_ms > 0


def waiting(world: World, agent: ById) -> None:
    world.feed(1)


def claimed(world: World, agent: ById) -> None:
    world.feed(1)
    world.claim(agent)


def retried(world: World, agent: ById) -> None:
    world.feed(1)
    world.settle(agent, *failed(world.claim(agent)[0]))


def delayed(world: World, agent: ById) -> None:
    world.successor(retries=3, retry_delay_ms=3_600_000)
    retried(world, agent)


def failed_task(world: World, agent: ById) -> None:
    world.fail(agent)


def result(world: World, agent: ById) -> None:
    world.feed(1)
    world.settle(agent, *done(world.claim(agent)[0], [0, 1, LARGE]))


@pytest.mark.parametrize("place", [waiting, claimed, retried, delayed, failed_task, result])
def test_a_body_that_a_list_names_stays(
    world: World, reader: Reader, place: Callable[[World, ById], None]
) -> None:
    place(world, world.agent())
    key = orphan(world, 0) if place in (waiting, retried, delayed, result) else None
    named = world.bodies() - {key}
    assert len(named) == 1
    passes(sweep_of(world, reader))
    assert world.bodies() == named


def test_a_task_that_gets_by_two_searches_keeps_its_body(world: World, sweep: BodySweep) -> None:
    world.feed(1)
    stored = world.bodies()
    passes(sweep, 1)
    for _ in range(3):
        world.client.rename(world.at.waiting, f"{world.keys.prefix}:elsewhere")
        passes(sweep, 2)
        world.client.rename(f"{world.keys.prefix}:elsewhere", world.at.waiting)
        passes(sweep, 1)
    assert world.bodies() == stored


def test_a_body_that_waits_for_its_push_stays(world: World, sweep: BodySweep) -> None:
    world.feed(2)
    items = world.items(2, 3)
    stored = world.bodies()
    passes(sweep)
    assert world.bodies() == stored
    world.server.allot(0, 2, items)
    passes(sweep)
    assert world.bodies() == stored


def test_a_result_whose_settlement_is_on_its_way_stays(
    world: World, sweep: BodySweep, reader: Reader
) -> None:
    agent = world.agent()
    world.feed(1)
    [id_] = world.claim(agent)
    settle = world.capture(lambda: world.settle(agent, *done(id_, [0, 1, LARGE])))
    passes(sweep)
    settle.send(world.client)
    [value] = [each.value for each in reader.results(0, 0, 10)[1] if not isinstance(each, bytes)]
    assert value == LARGE


def test_a_body_whose_edit_is_on_its_way_stays(world: World, sweep: BodySweep) -> None:
    agent, ctl = world.agent(), world.operator()
    [id_] = world.fail(agent)
    edit = world.capture(lambda: ctl.edit(0, id_, wire.pack(LARGE + "2")))
    passes(sweep)
    edit.send(world.client)
    again = agent.settle_and_claim(0, [], 1)
    assert wire.unpack(list_item.body(again.items[0])) == LARGE + "2"
    world.settle(agent, *done(id_))
    assert len(world.bodies()) == 1  # The old body, which the edit that died did not remove.
    passes(sweep)
    assert world.bodies() == set()


def test_the_bodies_of_another_run_go_at_once(world: World, reader: Reader) -> None:
    world.feed(3)
    old = world.bodies()
    world.new_server(mode="fresh", gone=world.server.actor.id)
    world.feed(1)
    assert len(world.bodies()) == 4
    sweep_of(world, reader).sweep()
    assert len(world.bodies()) == 1 and not world.bodies() & old


def test_a_server_that_holds_the_namespace_no_more_removes_nothing(world: World, sweep: BodySweep) -> None:
    orphan(world, run="otherrun")
    stored = world.bodies()
    world.successor()
    passes(sweep)
    assert world.bodies() == stored


def test_a_server_that_is_replaced_between_scan_and_removal_removes_nothing(
    world: World, sweep: BodySweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = sweep._scan

    def replaced_meanwhile() -> set[bytes]:
        world.new_server(mode="fresh", gone=world.server.actor.id)
        world.feed(1)
        return scan()

    world.feed(1)
    monkeypatch.setattr(sweep, "_scan", replaced_meanwhile)
    sweep.sweep()
    assert len(world.bodies()) == 2


def lose_all(world: World) -> None:
    for key in world.bodies():
        world.client.delete(key)


def test_missing_bodies_are_counted_and_told_once_two_passes_saw_them(
    world: World, sweep: BodySweep, reader: Reader
) -> None:
    agent = world.agent()
    world.feed(4)
    world.settle(agent, *done(world.claim(agent, 1)[0], [0, 1, LARGE]))
    passes(sweep, 1)
    lose_all(world)
    passes(sweep, 1)
    assert reader.snapshot().bodies.missing == 0
    passes(sweep, 1)
    assert reader.snapshot().bodies.missing == 4
    assert "4 tasks or results have lost the body in Redis" in troubles(reader.snapshot())[0]
    world.client.delete(world.at.waiting, world.at.results)
    passes(sweep, 2)
    assert reader.snapshot().bodies.missing == 0


def test_a_new_server_finds_missing_bodies_too(world: World, reader: Reader) -> None:
    world.feed(2)
    lose_all(world)
    passes(sweep_of(world, reader), 2)
    assert reader.snapshot().bodies.missing == 2


def test_a_pass_that_fails_counts_for_nothing(
    world: World, sweep: BodySweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.feed(1)
    world.client.delete(world.at.waiting)
    passes(sweep, UNTIL_REMOVED - 1)
    with monkeypatch.context() as patched:
        patched.setattr(Reader, "query", _away)
        with pytest.raises(RedisUnavailable):
            sweep.sweep()
    assert len(world.bodies()) == 1
    passes(sweep, 1)
    assert world.bodies() == set()


def _away(*_: object) -> Any:
    raise RedisUnavailable("away")


def test_what_no_agent_of_ours_wrote_does_not_stop_the_sweep(world: World, sweep: BodySweep) -> None:
    world.feed(1)
    world.claim(agent := world.agent())
    world.settle(agent, *done(f"{world.run.id}{0:012d}"))
    key = orphan(world)
    at = world.at
    world.client.rpush(at.waiting, b"", b"M1", b"x" * 100, b"\xff" * 30)
    world.client.hset(at.claim_counts, b"\xff\xfe", "1")
    world.client.hset(at.claims("a-forged"), "1", b"\xc1")
    world.client.hset(at.claim_counts, "a-forged", "x")
    world.client.set(b"mt:t:body:", b"")
    world.client.set(b"mt:t:body:9:strange", b"")
    passes(sweep, UNTIL_REMOVED)
    assert key not in world.bodies() and world.bodies() == set()


def test_a_sweep_that_redis_refuses_is_told_once_and_the_server_goes_on(
    world: World, reader: Reader, wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def refused(*_: object) -> Any:
        tried.append(1)
        raise RedisRefused("no right to SCAN") if len(tried) % 2 else ValueError("strange")

    monkeypatch.setattr(Bodies, "pages", refused)
    sweep = BodySweep(reader, world.server, "test", least_pause_s=0.001)
    sweep.start()
    wait_until(lambda: len(tried) > 6)
    sweep.stop()
    sweep.join(10)
    texts = [event.text for event in reader.snapshot().events if event.source == "test"]
    assert not sweep.is_alive() and len(texts) == 2
    assert texts[0].endswith("are not removed: no right to SCAN")


class MovingReader(Reader):
    """A reader before each of whose calls some tasks move."""

    move: Callable[[], None] = staticmethod(lambda: None)

    def query(self, *command: Any) -> Any:
        self.move()
        return super().query(*command)


MOVES = st.lists(
    st.sampled_from(["claim", "back", "fail", "retry", "reload", "feed", "done", "nothing"]), max_size=60
)


def test_no_body_goes_that_a_task_still_needs_while_tasks_move(redis_url: str, client: redis.Redis) -> None:
    @settings(max_examples=examples(25))
    @given(moves=st.lists(MOVES, min_size=8, max_size=8))
    def check(moves: list[list[str]]) -> None:
        client.flushall()
        world = World(client, body=LARGE, retries=99, capacity=200)
        agents, ctl = [world.agent(0), world.agent(1)], world.operator()
        world.feed(5)
        left = orphan(world)
        held: dict[int, list[str]] = {0: [], 1: []}
        reader = MovingReader(redis_url, "t")
        sweep = sweep_of(world, reader)

        def act(move: str, number: int) -> None:
            agent, ids = agents[number % 2], held[number % 2]
            if move == "claim":
                ids += world.claim(agent, 2)
            elif move == "feed":
                world.feed(1)
            elif move == "reload":
                ctl.reload_all(0)
            elif move != "nothing" and ids:
                outcome = {"back": handed_back, "fail": failed_for_good, "retry": failed, "done": _done}[move]
                world.settle(agent, *outcome(ids.pop(0)))

        for part in moves:
            queue = list(enumerate(part))
            # Two moves before each read, and the rest behind the pass.
            reader.move = lambda queue=queue: [act(move, n) for n, move in (queue.pop(0) for _ in queue[:2])]
            sweep.sweep()
            reader.move = lambda: None
            for number, move in queue:
                act(move, number)
            assert not world.server.bodies.missing(named(world))
        for agent, ids in zip(agents, held.values(), strict=True):
            world.settle(agent, *(part for id_ in ids for part in handed_back(id_)))
        passes(sweep)
        assert world.bodies() - {left} == set(named(world))

    check()


def _done(id_: str) -> list[Any]:
    return done(id_, [0, 1, LARGE])


def named(world: World) -> list[bytes]:
    """Return the bodies that the lists of channel 0 name."""
    items = [
        *world.client.lrange(world.at.waiting, 0, -1),
        *world.client.hvals(world.at.failed),
        *world.results(),
    ]
    actors = world.client.hkeys(world.at.claim_counts)
    agents = [world.broker(type(world.server.actor)(actor.decode())) for actor in actors]
    items += [item for agent in agents for item in world.claimed_items(agent)]
    return Bodies(world.client, "t", "here").keys(0, items)
