"""The details of a namespace, as the dashboard's backend returns them."""

from __future__ import annotations

import datetime as dt

import pytest
import redis

from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.commands.registry import CommandError, find
from tests.protocol.world import World, done
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.reasons import error_location, reason


@pytest.fixture
def world(client: redis.Redis) -> World:
    """A namespace with a server on it, two channels and no tasks."""
    return World(client)


@pytest.fixture
def backend(world: World, redis_url: str) -> RedisBackend:
    """A dashboard's backend for that namespace."""
    return RedisBackend(redis_url, world.keys.name, source="operator")


def test_a_running_tasks_payload_is_read_from_its_claim(world: World, backend: RedisBackend) -> None:
    agent = world.agent(0)
    payloads = [{"film": 1}, "x" * 20_000]
    ids = []
    for number, payload in enumerate(payloads):
        world.client.rpush(world.at.waiting, list_item.header("testtest", number) + wire.pack(payload))
        ids += world.claim(agent, 1)
    small, large = (backend.running_task(agent.actor.id, 0, id_) for id_ in ids)
    assert small is not None and (small.payload, small.size) == (payloads[0], len(wire.pack(payloads[0])))
    assert large is not None and large.payload == payloads[1]
    assert backend.running_task(agent.actor.id, 0, "t" * 20) is None
    assert backend.running_task("a-other", 0, ids[0]) is None
    world.client.hset(world.at.claims(agent.actor.id), mapping={"99": b"\xc1", "99:open": b"nn"})
    assert backend.running_task(agent.actor.id, 0, ids[0]) is None


def fail(world: World, task: object, *errors: Exception) -> str:
    """Add a task to channel 0 that fails once for each error, the last time for good. Return its id."""
    agent = world.agent(0)
    world.client.rpush(world.at.waiting, list_item.header("testtest", world.cursor()) + wire.pack(task))
    world.client.hincrby(world.at.counters, "allotted", 1)
    world.client.hincrby(world.at.counters, "cursor", 1)
    id_ = ""
    for number, error in enumerate(errors):
        [id_] = world.claim(agent, 1)
        letter = b"x" if number == len(errors) - 1 else b"f"
        world.settle(agent, (id_, letter, reason("run", error, 0)))
    agent.leave(0, 2)
    return id_


def test_a_failed_task_has_its_whole_payload_and_the_error_of_each_run(
    world: World, backend: RedisBackend
) -> None:
    id_ = fail(world, {"n": [1, "two"]}, ValueError("first"), KeyError("second"))
    detail = backend.failed_task(0, id_)
    assert detail is not None
    assert detail.payload == {"n": [1, "two"]}
    assert detail.json == '{\n  "n": [\n    1,\n    "two"\n  ]\n}'
    assert [(run.error_type, run.error) for run in detail.failed_runs] == [
        ("ValueError", "first"),
        ("KeyError", "'second'"),
    ]
    assert backend.failed_task(0, "testtest999999999999") is None


@pytest.mark.parametrize(
    "payload", [(1, 2), {1: "a"}, dt.date(2026, 1, 1), b"bytes", float("nan"), {"a": (1,)}]
)
def test_a_payload_that_json_would_change_cannot_be_edited_as_json(
    world: World, backend: RedisBackend, payload: object
) -> None:
    detail = backend.failed_task(0, fail(world, payload, ValueError()))
    assert detail is not None
    assert detail.json is None


def test_failed_tasks_are_grouped_by_error_and_location(world: World, backend: RedisBackend) -> None:
    for number in range(3):
        fail(world, number, ValueError("no"))
    fail(world, 9, KeyError("other"))
    groups = backend.fail_groups(None)
    assert [(group.error_type, group.count) for group in groups] == [("ValueError", 3), ("KeyError", 1)]
    assert groups[0].location == "no"


def test_the_location_of_an_error_is_the_last_frame_and_not_the_text_that_did_not_parse() -> None:
    trace = (
        '  File "/a/job.py", line 7, in parse\n    x\n  File "/data/bad.py", line 1\n    !\nSyntaxError: no'
    )
    assert error_location(trace, "no") == "job.py:7 in parse"
    assert error_location('  File "/data/bad.py", line 1\n', "no") == "bad.py:1"
    assert error_location("", "first line\nsecond") == "first line"


def test_many_failed_tasks_are_reloaded_in_one_call_and_missing_ones_are_counted(
    world: World, backend: RedisBackend
) -> None:
    ids = [fail(world, number, ValueError()) for number in range(3)]
    targets = [(0, id_) for id_ in [*ids, "testtest999999999999"]]
    outcome = backend.run_many(find("reload_one_fail_task"), targets)
    assert outcome.text == "3 failed tasks went back to their task channels; 1 no longer there"
    assert (outcome.data["asked"], outcome.data["done"]) == (4, 3)
    assert world.client.llen(world.at.waiting) == 3
    assert world.balanced()


def test_many_devices_are_paused_by_one_call(world: World, backend: RedisBackend) -> None:
    world.agent(0), world.agent(1)
    outcome = backend.run_many(find("pause_one"), [[0], [1], [77]])
    assert outcome.text == "asked 2 devices to pause"
    assert world.client.hmget(world.keys.desired_devices, "0", "1", "77") == [b"paused", b"paused", None]
    with pytest.raises(CommandError, match="none of these devices exists"):
        backend.run_many(find("pause_one"), [[77]])


def test_a_read_only_backend_refuses_every_command_and_still_reads(world: World, redis_url: str) -> None:
    backend = RedisBackend(redis_url, world.keys.name, read_only=True)
    world.agent(0)
    with pytest.raises(CommandError, match="read-only: pause_all is refused"):
        backend.run(find("pause_all"), [])
    with pytest.raises(CommandError, match="read-only: pause_one is refused"):
        backend.run_many(find("pause_one"), [[0]])
    assert backend.snapshot().devices[0].state == "paused"


def test_waiting_tasks_and_the_newest_results_can_be_read(world: World, backend: RedisBackend) -> None:
    world.feed(3)
    first, second = backend.waiting_tasks(0, 2)
    assert (first.number, second.number) == (0, 1)
    agent = world.agent(0)
    for id_ in world.claim(agent, 2):
        world.settle(agent, *done(id_, [0, 5, {"r": 1}]))
    newest, *_ = backend.last_results(0, 1)
    assert (newest.number, newest.device, newest.finished_ms, newest.result) == (1, 0, 5, "{'r': 1}")
    assert len(backend.waiting_tasks(0, 10)) == 1
