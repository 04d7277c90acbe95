"""A walk through all failed tasks: each once, newest first, while others fail or leave."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import redis

from mutitask_tui.server.failed_pages import failed_pages
from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.snapshot import FailedTask
from tests.protocol.world import World
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.reasons import reason


@pytest.fixture
def world(client: redis.Redis) -> World:
    """A namespace with a server on it, two channels and no tasks."""
    return World(client)


@pytest.fixture
def inspector(world: World, redis_url: str) -> Inspector:
    """A reader of that namespace."""
    return Inspector(redis_url, world.keys.name)


def add_failed(world: World, channel: int, times: dict[int, int], why: str = "no") -> None:
    """Add failed tasks to a channel: number to the time in ms."""
    at, why_packed = world.keys.channel(channel), reason("run", ValueError(why), 0)
    pipe = world.client.pipeline()
    for number, at_ms in times.items():
        id_ = f"testtest{number:012d}"
        pipe.hset(at.failed, id_, list_item.header("testtest", number) + wire.pack(number))
        pipe.hset(at.reasons, id_, why_packed)
        pipe.zadd(at.failed_at, {id_: at_ms})
    pipe.execute()


def remove(world: World, channel: int, number: int) -> None:
    """Remove a failed task."""
    at, id_ = world.keys.channel(channel), f"testtest{number:012d}"
    world.client.hdel(at.failed, id_)
    world.client.zrem(at.failed_at, id_)


def walk(
    inspector: Inspector, channel: int | None, page: int, between: Callable[[], None]
) -> list[FailedTask]:
    """Return all tasks of a walk. `between` is called after each page."""
    found: list[FailedTask] = []
    for records in failed_pages(inspector, channel, page):
        found += [record.view for record in records]
        between()
    return found


@pytest.mark.parametrize("page", [1, 3, 50])
@pytest.mark.parametrize("one_instant", [False, True])
def test_each_task_of_all_channels_comes_once_and_the_newest_first(
    world: World, inspector: Inspector, page: int, one_instant: bool
) -> None:
    add_failed(world, 0, {n: 1000 if one_instant else 1000 + 2 * n for n in range(40)})
    add_failed(world, 1, {n: 1000 if one_instant else 1001 + 2 * n for n in range(40, 70)})
    found = walk(inspector, None, page, lambda: None)
    assert sorted(task.number for task in found) == list(range(70))
    assert [task.failed_ms for task in found] == sorted((t.failed_ms for t in found), reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_task_that_stays_comes_once_although_others_fail_and_leave(
    world: World, inspector: Inspector, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutitask_tui.server.failed_pages._IDS", 7)
    chance = random.Random(seed)
    add_failed(world, 0, {n: 1000 + n // 3 for n in range(200)})
    there, new = set(range(200)), 200

    def change() -> None:
        nonlocal new
        for number in chance.sample(sorted(there), chance.choice((0, 3, 12))):
            remove(world, 0, number)
            there.discard(number)
        add_failed(world, 0, {new + n: 5000 + new for n in range(chance.choice((0, 5, 20)))})
        new += 20

    numbers = [task.number for task in walk(inspector, 0, 5, change)]
    assert len(numbers) == len(set(numbers))
    assert there <= set(numbers) <= set(range(200))


def test_tasks_are_found_by_their_ids_and_those_that_left_are_not(world: World, inspector: Inspector) -> None:
    add_failed(world, 0, {1: 1000, 2: 3000})
    add_failed(world, 1, {3: 2000})
    asked = [(task.channel, task.id, task.failed_ms) for task in inspector.failed_tasks(None, 0, 10)]
    remove(world, 0, 2)
    assert [task.number for task in inspector.failed_by_id(asked)] == [3, 1]
    assert inspector.failed_by_id([]) == ()


def test_groups_count_all_failed_tasks(world: World, inspector: Inspector) -> None:
    add_failed(world, 0, {n: 1000 + n for n in range(12_000)}, "one")
    add_failed(world, 0, {n: 500 + n for n in range(12_000, 12_003)}, "another")
    groups = inspector.fail_groups(None)
    assert [(group.location, group.count) for group in groups] == [("one", 12_000), ("another", 3)]
    assert groups[0].example.number == 11_999
