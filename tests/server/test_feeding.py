"""Which thread pushes a feed's items, and what happens if the channel's count differs from the feed's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.feed import SINGLE_ITEM_S
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.keys import ChannelKeys, Keys
from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.task import Task


@contextmanager
def feeding(url: str, items: Iterator[Any], *, resume: bool = False) -> Iterator[ServerCore]:
    """Run a server that feeds one channel from these items. The capacity is 10, or 30 if the run is resumed."""
    plan = RunPlan(1, 0, 30, mode="resume") if resume else RunPlan(1, 0, 10)
    core = ServerCore(url, "feeding", plan, [items])
    core.open()
    core.start()
    try:
        yield core
    finally:
        core.stop()


def numbers(client: redis.Redis, at: ChannelKeys) -> list[int]:
    """Return the numbers of the waiting items, in their order."""
    return [list_item.parse(item).number for item in client.lrange(at.waiting, 0, -1)]


def test_a_push_whose_answer_was_lost_is_not_pushed_again(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(30))) as core:
        wait_until(lambda: client.llen(at.waiting) == 10)
        # Items 10 and 11 arrive like a push whose answer was lost.
        assert core.run is not None
        client.rpush(at.waiting, *[list_item.header(core.run.id, n) + wire.pack(n) for n in (10, 11)])
        client.hincrby(at.counters, "allotted", 2)
        client.hincrby(at.counters, "cursor", 2)
        client.hset(at.counters, "capacity", 30)
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(30))
        assert client.hget(at.counters, "allotted") == b"30"


def test_lost_writes_end_the_server_with_a_message_that_names_the_remedy(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(30))) as core:
        wait_until(lambda: client.llen(at.waiting) == 10)
        with client.pipeline(transaction=True) as lost:  # at once: the server refills what it sees popped
            lost.rpop(at.waiting, 3)
            lost.hincrby(at.counters, "allotted", -3)
            lost.hincrby(at.counters, "cursor", -3)
            lost.execute()
        assert core.ended.wait(20)
        assert "up to item 10, and Redis knows of 7" in str(core.failure)
        assert "start the server again with --resume" in str(core.failure)
    with feeding(redis_url, iter(range(30)), resume=True):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(30))


def test_lost_writes_are_noticed_even_if_nothing_is_left_to_push_and_no_connection_broke(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(8))) as core:
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        client.rpop(at.waiting, 3)
        client.hset(at.counters, mapping={"allotted": 5, "cursor": 5})
        client.hdel(at.counters, "exhausted")
        assert core.ended.wait(10)
        assert "was fed up to item 8, and Redis knows of 5" in str(core.failure)
    with feeding(redis_url, iter(range(8)), resume=True):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(8))


def test_the_end_of_a_generator_is_recorded_again_after_redis_lost_it(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(8))) as core:
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        client.hdel(at.counters, "exhausted")
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(8)) and not core.ended.is_set()


def test_on_allotted_is_called_after_each_push_and_only_for_pushed_items(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    calls: list[tuple[int, Any, int]] = []
    plan = RunPlan(1, 0, 10)
    core = ServerCore(
        redis_url, "feeding", plan, [iter("abcdefghijklmno")], on_allotted=lambda *call: calls.append(call)
    )
    core.open()
    core.start()
    try:
        wait_until(lambda: calls and calls[-1][0] == 10)
        assert calls[-1] == (10, "j", 0)
        client.ltrim(at.waiting, 10, -1)
        client.lpush(Keys("feeding").server_token, "1")
        wait_until(lambda: calls[-1] == (15, "o", 0))
        assert [count for count, _, _ in calls] == sorted({count for count, _, _ in calls})
    finally:
        core.stop()


def test_an_on_allotted_that_raises_halts_the_feed_after_the_pushed_items(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    def broken(_count: int, _last: Any, _channel: int) -> None:
        raise OSError("the queue is gone")

    at = Keys("feeding").channel(0)
    core = ServerCore(redis_url, "feeding", RunPlan(1, 0, 10), [iter(range(30))], on_allotted=broken)
    core.open()
    core.start()
    try:
        wait_until(lambda: client.hget(at.counters, "halted"))
        assert b"on_allotted raised OSError: the queue is gone; fix the job" in client.hget(
            at.counters, "halted"
        )
        allotted = int(client.hget(at.counters, "allotted"))
        assert numbers(client, at) == list(range(allotted))
        assert client.hget(at.counters, "exhausted") is None
    finally:
        core.stop()


class OneByOne:
    """Yields items one by one, each some time after the previous one was allotted."""

    def __init__(self, count: int, allotted: Callable[[], int]) -> None:
        self._count = count
        self._allotted = allotted

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            while self._allotted() < number:
                time.sleep(0.001)
            time.sleep(2 * SINGLE_ITEM_S)
            yield number


def test_items_that_come_one_by_one_are_pushed_by_the_thread_that_reads_them(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Keys("feeding").channel(0)
    threads: list[str] = []
    allot = Broker.allot

    def recording_allot(broker: Broker, *args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return allot(broker, *args, **options)

    monkeypatch.setattr(Broker, "allot", recording_allot)
    with feeding(redis_url, iter(OneByOne(8, lambda: int(client.hget(at.counters, "cursor") or 0)))):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")

    assert numbers(client, at) == list(range(8))
    assert threads[-1] == "allotter", "the feed pushes only items, not the end of the generator"
    assert threads.count("feed-0") >= 4


def test_lost_writes_are_noticed_while_items_come_one_by_one(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    writes_lost = threading.Event()

    def allotted() -> int:
        count = int(client.hget(at.counters, "cursor") or 0)
        if count == 4 and not writes_lost.is_set():
            client.rpop(at.waiting, 2)
            client.hset(at.counters, mapping={"allotted": 2, "cursor": 2})
            writes_lost.set()
        return 100 if writes_lost.is_set() else count

    with feeding(redis_url, iter(OneByOne(8, allotted))) as core:
        assert core.ended.wait(20)
        assert "Redis knows of 2" in str(core.failure)
    with feeding(redis_url, iter(range(8)), resume=True):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(8))


def test_a_task_with_options_is_pushed_with_its_payload_alone(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    items = [Task("a", timeout=30, retries=0), "b", Task("c", delay=3_600), Task("d")]
    with feeding(redis_url, iter(items)):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
    waiting = [list_item.parse(item) for item in client.lrange(at.waiting, 0, -1)]
    (delayed,) = [list_item.parse(item) for item in client.zrange(at.delayed, 0, -1)]
    assert [wire.unpack(item.body) for item in (*waiting, delayed)] == ["a", "b", "d", "c"]
    assert [item.options for item in (*waiting, delayed)] == [
        list_item.Options(30.0, 0), list_item.Options(), list_item.Options(), list_item.Options(delay_ms=3_600_000),
    ]  # fmt: skip


def test_a_resumed_feed_knows_its_tasks_by_payload_and_options(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    def tasks(retries: int) -> Iterator[Any]:
        yield from (Task(number, retries=retries) for number in range(40))

    at = Keys("feeding").channel(0)
    with feeding(redis_url, tasks(1)):
        wait_until(lambda: client.llen(at.waiting) == 10)
    with feeding(redis_url, tasks(1), resume=True):
        wait_until(lambda: client.llen(at.waiting) == 30)
    with feeding(redis_url, tasks(2), resume=True) as core:
        wait_until(core.halted_feeds)
        assert "differs from the one that was allotted" in core.halted_feeds()[0]


def test_a_task_within_a_payload_stops_the_feed_before_it(
    redis_url: str, wait_until: Callable[..., Any]
) -> None:
    with feeding(redis_url, iter([[Task(1)]])) as core:
        wait_until(core.halted_feeds)
        assert "item 0 is a value of type worker_agent.protocol.task.Task" in core.halted_feeds()[0]
