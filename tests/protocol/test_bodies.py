"""Bodies that are stored apart: where they go on every path of a task, and what is left when a process dies between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from mutitask_tui.server.feed import small_form
from mutitask_tui.server.reader import Reader, Result
from tests.protocol.world import (
    LARGE,
    ById,
    Outcome,
    World,
    crashed,
    done,
    failed,
    failed_for_good,
    handed_back,
    id_of,
    result_of,
    saved,
)
from worker_agent.execution.runner import Runner
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.bodies import APART_BYTES, Bodies, body_of
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.connection import guard
from worker_agent.protocol.errors import RedisUnavailable
from worker_agent.protocol.reasons import read_reasons
from worker_agent.protocol.settlements import UNDECODABLE


@pytest.fixture
def large_world(client: redis.Redis) -> World:
    """Return a namespace whose tasks have large bodies."""
    return World(client, body=LARGE, retries=3)


def values(claim: Claim) -> list[object]:
    return [wire.unpack(list_item.body(item)) for item in claim.items]


def claim(agent: ById, want: int = 10) -> Claim:
    return agent.settle_and_claim(0, [], want)


def recorded(reader: Reader) -> list[object]:
    return [result.value for result in reader.results(0, 0, 100)[1] if isinstance(result, Result)]


@pytest.fixture
def reader(redis_url: str) -> Reader:
    return Reader(redis_url, "t")


def test_a_large_task_is_pushed_without_its_body_and_claimed_with_it(large_world: World) -> None:
    world, agent = large_world, large_world.agent()
    world.feed(3)
    assert all(len(item) < 200 for item in world.client.lrange(world.at.waiting, 0, -1))
    assert len(world.bodies()) == 3
    claimed = claim(agent)
    assert values(claimed) == [LARGE] * 3
    assert all(len(item) < 200 for item in world.claimed_items(agent))


def test_a_small_task_has_no_key_of_its_own(world: World) -> None:
    world.feed(1, body="x" * (APART_BYTES - 40))
    assert world.bodies() == set()


@pytest.mark.parametrize("outcome", [done, saved])
def test_the_body_of_a_task_that_is_done_goes(
    large_world: World, outcome: Callable[..., list[Outcome]]
) -> None:
    agent = large_world.agent()
    large_world.feed(3)
    ids = large_world.claim(agent)
    large_world.settle(agent, *outcome(ids[0]), *outcome(ids[2]))
    (left,) = large_world.bodies()
    assert ids[1].encode() in left


@pytest.mark.parametrize("outcome", [failed, failed_for_good, handed_back, crashed])
def test_the_body_of_a_task_that_is_not_done_stays(
    large_world: World, outcome: Callable[..., list[Outcome]]
) -> None:
    agent = large_world.agent()
    large_world.feed(2)
    before = large_world.bodies()
    ids = large_world.claim(agent)
    large_world.settle(agent, *outcome(ids[0]), *outcome(ids[1]))
    assert large_world.bodies() == before
    if outcome is failed_for_good:
        large_world.operator().reload_all(0)
    assert values(claim(agent))[0] == LARGE


def test_a_task_whose_settlement_was_refused_keeps_its_body(large_world: World) -> None:
    agent = large_world.agent()
    large_world.feed(1)
    [id_] = large_world.claim(agent)
    # The task goes back to its channel by a call of which the broker knows nothing.
    large_world.capture(lambda: large_world.settle(agent, *failed(id_))).send(large_world.client)
    assert large_world.settle(agent, *done(id_)).refused == 1
    assert values(claim(agent)) == [LARGE]
    large_world.settle(agent, *done(id_))
    assert large_world.bodies() == set()


def test_a_large_result_is_stored_apart_and_read_and_drained_with_its_body(
    world: World, reader: Reader
) -> None:
    agent, ctl = world.agent(), world.operator()
    ids = world.feed(3)
    world.claim(agent)
    value = [0, 1, LARGE]
    world.settle(agent, *done(ids[0], value), *done(ids[1], [0, 2, "small"]), *done(ids[2], value))
    assert [len(item) < 200 for item in world.results()] == [True, True, True]
    assert len(world.bodies()) == 2
    assert recorded(reader) == [LARGE, "small", LARGE]
    page = reader.result_items(0, 0, 2)
    assert ctl.drain(0, page.drained, 2, page.bodies) == 2
    assert recorded(reader) == [LARGE] and len(world.bodies()) == 1


def test_results_come_in_pages_that_their_bodies_fit_in(
    world: World, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutitask_tui.server.reader.PAGE_BODIES_BYTES", 2 * len(LARGE) + 100)
    agent = world.agent()
    ids = world.feed(5)
    world.claim(agent)
    world.settle(agent, *(part for id_ in ids for part in done(id_, [0, 1, LARGE])))
    assert [len(reader.result_items(0, start, 100).items) for start in (0, 2, 4, 5)] == [2, 2, 1, 0]


def test_many_bodies_are_stored_and_fetched_in_several_commands(
    large_world: World, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_agent.protocol.bodies.PACKET_BYTES", 2 * len(LARGE) + 100)
    agent = large_world.agent()
    large_world.feed(7)
    claimed = claim(agent)
    assert values(claimed) == [LARGE] * 7
    large_world.settle(agent, *(part for item in claimed.items for part in done(id_of(item), [0, 1, LARGE])))
    assert recorded(reader) == [LARGE] * 7 and len(large_world.bodies()) == 7


# What is left when a process dies between two steps


def test_a_task_that_died_between_store_and_push_is_stored_again_under_the_same_name(
    large_world: World,
) -> None:
    first = large_world.items(0, 2)
    stored = large_world.bodies()
    assert large_world.items(0, 2) == first and large_world.bodies() == stored
    large_world.server.allot(0, 0, first)
    assert values(claim(large_world.agent())) == [LARGE, LARGE]


def test_a_task_whose_agent_died_between_fetch_and_settle_runs_elsewhere_with_its_body(
    large_world: World,
) -> None:
    agent, other = large_world.agent(0), large_world.agent(1)
    large_world.feed(2)
    large_world.claim(agent)
    large_world.expire_and_recover(agent)
    for _ in range(2):
        again = claim(other)
        assert values(again) == [LARGE]
        large_world.settle(other, *done(id_of(again.items[0])))
    assert large_world.bodies() == set() and large_world.balanced()


def test_an_agent_that_died_between_settle_and_unlink_leaves_its_task_done(large_world: World) -> None:
    agent = large_world.agent()
    large_world.feed(1)
    [id_] = large_world.claim(agent)
    call = large_world.capture(lambda: large_world.settle(agent, *done(id_)))
    call.send(large_world.client)
    assert large_world.counts()["done"] == 1 and len(large_world.bodies()) == 1


def test_an_agent_that_died_between_the_store_of_its_result_and_its_settle_leaves_the_task_claimed(
    large_world: World, reader: Reader
) -> None:
    agent, other = large_world.agent(0), large_world.agent(1)
    large_world.feed(1)
    [id_] = large_world.claim(agent)
    large_world.capture(
        lambda: large_world.settle(agent, *done(id_, [0, 1, LARGE]))
    )  # Stores, and does not settle.
    assert len(large_world.bodies()) == 2
    large_world.expire_and_recover(agent)
    large_world.claim(other)
    large_world.settle(other, *done(id_, [0, 1, LARGE]))
    assert recorded(reader) == [LARGE]


def test_a_call_whose_answer_was_lost_fetches_its_bodies_when_it_is_sent_again(large_world: World) -> None:
    agent = large_world.agent()
    large_world.feed(3)
    number = agent.actor.next_number()
    call = large_world.capture(lambda: agent.settle_and_claim(0, [], 3, number=number))
    call.send(large_world.client)
    again = agent.settle_and_claim(0, [], 3, number=number)
    assert values(again) == [LARGE] * 3
    large_world.settle(agent, *(part for item in again.items for part in done(id_of(item))))
    assert large_world.bodies() == set()


def test_a_fetch_that_fails_is_tried_again_without_another_claim(
    large_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = large_world.agent()
    large_world.feed(2)
    send, failures = Bodies._send, [1, 2]

    def failing(self: Bodies, commands: Sequence[Any], receive: Any) -> None:
        if commands and commands[0][0] == "MGET" and failures:
            failures.pop()
            raise RedisUnavailable("away")
        send(self, commands, receive)

    monkeypatch.setattr(Bodies, "_send", failing)
    agent.retry._max_tries = None
    assert values(claim(agent)) == [LARGE, LARGE] and not failures
    agent.retry._max_tries = 1


def test_a_claim_behind_a_token_brings_its_bodies_and_none_if_they_cannot_be_fetched(
    large_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = large_world.agent()
    large_world.feed(2)
    agent.settle_and_claim(
        0, [], 0
    )  # Redis knows the script from now on: a claim behind a token does not load it.
    number = agent.actor.next_number()

    def away(*_: object) -> None:
        raise RedisUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(Bodies, "_send", away)
        assert agent.claim_at_token(large_world.client, 0, 2, number, 0.01) is None
    assert values(agent.settle_and_claim(0, [], 0, number=number)) == [LARGE, LARGE]
    large_world.feed(1)
    behind = agent.claim_at_token(large_world.client, 0, 2, agent.actor.next_number(), 0.01)
    assert behind and values(behind) == [LARGE]


# Missing and strange bodies


def run_item(item: bytes) -> tuple[bytes, bytes]:
    return Runner(lambda _channel: (lambda task: task, None), 0).run(item, 0)


def test_a_task_whose_body_is_missing_fails_with_a_sentence(large_world: World, reader: Reader) -> None:
    agent = large_world.agent()
    ids = large_world.feed(2)
    (lost,) = [key for key in large_world.bodies() if ids[0].encode() in key]
    large_world.client.delete(lost)
    claimed = claim(agent)
    assert [list_item.is_apart(item) for item in claimed.items] == [True, False]
    outcome, carried = run_item(claimed.items[0])
    assert outcome == UNDECODABLE
    large_world.settle(agent, (ids[0], outcome, carried))
    [why] = read_reasons(large_world.client.hget(large_world.at.reasons, ids[0]))
    assert "its body is missing in Redis" in why.message
    [record] = reader.failed_records(0, 0, 10)
    assert record.view.task == "(its body of 6.6 kB is missing in Redis)" and record.apart
    assert large_world.operator().edit(0, ids[0], wire.pack("new"))
    assert large_world.balanced()


def test_a_result_whose_body_is_missing_is_told_and_drained(world: World, reader: Reader) -> None:
    agent, ctl = world.agent(), world.operator()
    ids = world.feed(2)
    world.claim(agent)
    world.settle(agent, *done(ids[0], [0, 1, LARGE]), *done(ids[1], [0, 1, LARGE]))
    world.client.delete(*[key for key in world.bodies() if ids[0].encode() in key])
    drained, (gone, there) = reader.results(0, 0, 10)
    assert isinstance(gone, bytes) and ids[0].encode() in gone
    assert isinstance(there, Result) and there.value == LARGE
    assert ctl.drain(0, drained, 2, reader.result_items(0, 0, 2).bodies) == 2
    assert world.bodies() == set()


def store_forged(world: World, item: bytes, key_holds: Callable[[bytes], object]) -> None:
    """Push the small form of an item, and let another value stand under the key of its body."""
    small = small_form(item)
    (key,) = world.server.bodies.keys(0, [small])
    key_holds(key)
    world.client.rpush(world.at.waiting, small)


@pytest.mark.parametrize("kind", ["another size", "another type", "far too large"])
def test_a_body_that_is_not_what_its_item_says_is_missing_and_harms_no_other_task(
    large_world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = large_world
    if kind == "far too large":
        monkeypatch.setattr(guard, "BODY_BYTES", 50_000)
    forgeries: dict[str, Callable[[bytes], object]] = {
        "another size": lambda key: world.client.set(key, b"x"),
        "another type": lambda key: world.client.rpush(key, b"x"),
        "far too large": lambda key: world.client.set(key, b"x" * 60_000),
    }
    agent = world.agent()
    world.feed(1)
    store_forged(world, list_item.header(world.run.id, 500) + wire.pack(LARGE), forgeries[kind])
    world.feed(1)
    assert [list_item.is_apart(item) for item in claim(agent).items] == [False, True, False]


def test_a_claim_counts_bodies_towards_its_limit(world: World) -> None:
    agent = world.agent()
    world.feed(9, body="x" * 600_000)
    # A body that is stored apart counts a quarter.
    assert [len(item) > 600_000 for item in claim(agent).items] == [True] * 7


# Memory


def test_without_memory_a_large_result_is_settled_inline(world: World, reader: Reader) -> None:
    agent = world.agent()
    ids = world.feed(2)
    world.claim(agent)
    world.client.config_set("maxmemory", 1)
    try:
        claimed = world.settle(agent, *done(ids[0], [0, 1, LARGE]), *done(ids[1], [0, 1, "small"]))
    finally:
        world.client.config_set("maxmemory", 0)
    assert claimed.refused == 0 and world.bodies() == set()
    assert recorded(reader) == [LARGE, "small"]


def test_without_memory_a_large_task_waits(large_world: World) -> None:
    item = list_item.header(large_world.run.id, 0) + wire.pack(LARGE)
    large_world.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable, match="out of memory"):
            large_world.server.store_bodies(0, [(small_form(item), body_of(item))])
    finally:
        large_world.client.config_set("maxmemory", 0)
    assert large_world.bodies() == set()


# Failed tasks


def test_an_edit_gives_a_large_task_another_body_and_removes_the_old_one(large_world: World) -> None:
    agent, ctl = large_world.agent(), large_world.operator()
    [id_] = large_world.fail(agent)
    (old,) = large_world.bodies()
    assert ctl.edit(0, id_, wire.pack(LARGE + "2"))
    (new,) = large_world.bodies()
    assert new != old
    assert values(claim(agent)) == [LARGE + "2"]
    large_world.settle(agent, *failed_for_good(id_))
    assert ctl.edit(0, id_, wire.pack(LARGE + "3")) and not large_world.bodies() & {old, new}
    assert values(claim(agent)) == [LARGE + "3"]
    large_world.settle(agent, *failed_for_good(id_))
    assert ctl.edit(0, id_, wire.pack("small")) and large_world.bodies() == set()
    assert values(claim(agent)) == ["small"]


def test_an_edit_of_a_task_that_is_gone_leaves_no_body(world: World) -> None:
    assert not world.operator().edit(0, "run12345000000000001", wire.pack(LARGE))
    assert world.bodies() == set()


def test_without_memory_an_edit_is_made_inline(large_world: World) -> None:
    agent, ctl = large_world.agent(), large_world.operator()
    [id_] = large_world.fail(agent)
    large_world.client.config_set("maxmemory", 1)
    try:
        assert ctl.edit(0, id_, wire.pack(LARGE + "2"))
    finally:
        large_world.client.config_set("maxmemory", 0)
    assert large_world.bodies() == set() and values(claim(agent)) == [LARGE + "2"]


def test_deleted_tasks_lose_their_bodies_and_reloaded_tasks_keep_them(large_world: World) -> None:
    agent, ctl = large_world.agent(), large_world.operator()
    ids = large_world.fail(agent, 3)
    assert ctl.delete(0, ids[:2]) == 2 and len(large_world.bodies()) == 1
    assert ctl.reload_all(0) == 1
    assert values(claim(agent)) == [LARGE]


def test_lists_of_failed_tasks_leave_large_payloads_out_and_details_have_them(
    world: World, reader: Reader
) -> None:
    agent = world.agent()
    huge = "huge " * 20_000
    ids = world.feed(1, body=LARGE) + world.feed(1, body=huge)
    world.claim(agent)
    world.settle(agent, *failed_for_good(ids[0]), *failed_for_good(ids[1]))
    by_id = {record.view.id: record for record in reader.failed_records(0, 0, 10)}
    assert by_id[ids[0]].value == LARGE
    assert by_id[ids[1]].view.task == "(a large task, 100.0 kB)" and by_id[ids[1]].apart
    record = reader.failed_record(0, ids[1])
    assert record and record.value == huge and not record.apart


def test_a_large_item_of_an_older_namespace_works_inline(world: World, reader: Reader) -> None:
    agent, ctl = world.agent(), world.operator()
    item = list_item.header(world.run.id, 7) + wire.pack(LARGE)
    world.client.rpush(world.at.waiting, item, item.replace(b"000000000007", b"000000000008"))
    ids = world.claim(agent)
    world.settle(agent, *failed_for_good(ids[0]), *done(ids[1]))
    record = reader.failed_record(0, ids[0])
    assert record and record.value == LARGE
    world.client.rpush(world.at.results, result_of(ids[0], [0, 1, LARGE]))
    assert recorded(reader)[-1] == LARGE
    assert ctl.reload_all(0) == 1 and values(claim(agent)) == [LARGE]
