"""Who pushes what a feed lays ready, and what happens when the channel's count is not the one that it had come to."""

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
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.keys import ChannelKeys, Keys
from worker_agent.protocol.membership import RunPlan


@contextmanager
def feeding(url: str, items: Iterator[Any], *, resume: bool = False) -> Iterator[ServerCore]:
    """A server that feeds one channel of capacity 10 (30 where it is resumed) from these items."""
    plan = RunPlan(1, 0, 30, mode="resume") if resume else RunPlan(1, 0, 10)
    core = ServerCore(url, "feeding", plan, [items])
    core.open()
    core.start()
    try:
        yield core
    finally:
        core.stop()


def numbers(client: redis.Redis, at: ChannelKeys) -> list[int]:
    """The numbers of the items that wait, in their order."""
    return [wire.parse(item).number for item in client.lrange(at.waiting, 0, -1)]


def test_a_push_whose_answer_was_lost_is_not_pushed_again(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(30))) as core:
        wait_until(lambda: client.llen(at.waiting) == 10)
        # Items 10 and 11 arrive as a push does whose answer never came back.
        assert core.run is not None
        client.rpush(at.waiting, *[wire.header(core.run.id, n) + wire.pack(n) for n in (10, 11)])
        client.hincrby(at.counters, "allotted", 2)
        client.hincrby(at.counters, "cursor", 2)
        client.hset(at.counters, "capacity", 30)
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(30))
        assert client.hget(at.counters, "allotted") == b"30"


def test_a_redis_that_forgot_what_it_acknowledged_ends_the_server_which_names_the_remedy(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(30))) as core:
        wait_until(lambda: client.llen(at.waiting) == 10)
        client.rpop(at.waiting, 3)
        client.hincrby(at.counters, "allotted", -3)
        client.hincrby(at.counters, "cursor", -3)
        assert core.ended.wait(20)
        assert "up to item 10, and Redis knows of 7" in str(core.failure)
        assert "start the server again with --resume" in str(core.failure)
    with feeding(redis_url, iter(range(30)), resume=True):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(30))


def test_a_redis_that_forgot_is_noticed_though_nothing_is_left_to_push_and_no_connection_broke(
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


def test_the_end_of_a_generator_that_redis_forgot_is_told_again(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    with feeding(redis_url, iter(range(8))) as core:
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        client.hdel(at.counters, "exhausted")
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(8)) and not core.ended.is_set()


def test_a_source_hears_of_each_push_and_of_nothing_that_was_not_pushed(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    heard: list[tuple[int, Any, int]] = []
    plan = RunPlan(1, 0, 10)
    core = ServerCore(
        redis_url, "feeding", plan, [iter("abcdefghijklmno")], on_allotted=lambda *told: heard.append(told)
    )
    core.open()
    core.start()
    try:
        wait_until(lambda: heard and heard[-1][0] == 10)
        assert heard[-1] == (10, "j", 0)
        client.ltrim(at.waiting, 10, -1)
        client.lpush(Keys("feeding").server_token, "1")
        wait_until(lambda: heard[-1] == (15, "o", 0))
        assert [count for count, _, _ in heard] == sorted({count for count, _, _ in heard})
    finally:
        core.stop()


def test_a_source_that_cannot_let_go_stops_the_feed_behind_what_was_pushed(
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


class Singly:
    """Yields its items one by one, each when the one before it has been allotted for some time."""

    def __init__(self, count: int, allotted: Callable[[], int]) -> None:
        self._count = count
        self._allotted = allotted

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            while self._allotted() < number:
                time.sleep(0.001)
            time.sleep(2 * SINGLE_ITEM_S)
            yield number


def test_items_that_come_singly_are_pushed_by_the_thread_that_reads_them(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Keys("feeding").channel(0)
    by: list[str] = []
    plain = Broker.allot

    def noted(broker: Broker, *asked: Any, **options: Any) -> Any:
        by.append(threading.current_thread().name)
        return plain(broker, *asked, **options)

    monkeypatch.setattr(Broker, "allot", noted)
    with feeding(redis_url, iter(Singly(8, lambda: int(client.hget(at.counters, "cursor") or 0)))):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")

    assert numbers(client, at) == list(range(8))
    assert by[-1] == "allotter", "the end of the generator is no item"
    assert by.count("feed-0") >= 4


def test_a_redis_that_forgot_is_noticed_where_items_come_singly_too(
    client: redis.Redis, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    at = Keys("feeding").channel(0)
    forgot = threading.Event()

    def allotted() -> int:
        count = int(client.hget(at.counters, "cursor") or 0)
        if count == 4 and not forgot.is_set():
            client.rpop(at.waiting, 2)
            client.hset(at.counters, mapping={"allotted": 2, "cursor": 2})
            forgot.set()
        return 100 if forgot.is_set() else count

    with feeding(redis_url, iter(Singly(8, allotted))) as core:
        assert core.ended.wait(20)
        assert "Redis knows of 2" in str(core.failure)
    with feeding(redis_url, iter(range(8)), resume=True):
        wait_until(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert numbers(client, at) == list(range(8))
