"""Repeat a call while Redis is away: back-off, reports, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.protocol.world import World
from tests.support.redis_server import RealServer
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.errors import RedisRefused, RedisUnavailable


def failing(times: int, error: Callable[[], Exception] = lambda: RedisUnavailable("away")):
    """Return a call that fails `times` times, and the list of the times at which it was tried."""
    tried: list[float] = []

    def call() -> str:
        tried.append(time.monotonic())
        if len(tried) <= times:
            raise error()
        return "back"

    return call, tried


def test_retries_back_off_and_report_the_wait_once_and_the_recovery_once() -> None:
    told: list[str] = []
    retry = RetryPolicy(
        on_wait=lambda error: told.append(str(error)), on_recovered=lambda: told.append("back")
    )
    call, tried = failing(4)
    assert retry(call) == "back"
    assert told == ["away", "back"]
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert all(gap >= 0.05 * 2**step * 0.99 for step, gap in enumerate(gaps))
    assert retry(failing(0)[0]) == "back"
    assert told == ["away", "back"]


def test_retries_end_after_max_tries() -> None:
    call, tried = failing(9)
    with pytest.raises(RedisUnavailable):
        RetryPolicy(max_tries=2)(call)
    assert len(tried) == 2


def test_a_refusal_is_not_retried() -> None:
    call, tried = failing(9, lambda: RedisRefused("no"))
    with pytest.raises(RedisRefused):
        RetryPolicy()(call)
    assert len(tried) == 1


def test_retries_end_soon_after_give_up_is_set() -> None:
    give_up = threading.Event()
    call, tried = failing(1_000)
    retry = RetryPolicy(give_up=give_up)
    ended: list[Exception] = []

    def wait() -> None:
        try:
            retry(call)
        except RedisUnavailable as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while len(tried) < 5:
        time.sleep(0.01)
    give_up.set()
    set_at, before = time.monotonic(), len(tried)
    thread.join(5)
    assert len(ended) == 1
    assert tried[-1] - set_at < 2.0
    assert len(tried) - before <= 5


def test_retries_continue_until_a_restarted_server_answers(own_server: RealServer) -> None:
    world = World(connect(own_server.url))  # type: ignore[arg-type]
    agent = world.agent()
    world.feed(2)
    waiting = threading.Event()
    broker = Broker(
        connect(own_server.url),
        "t",
        agent.actor,
        address="here",
        retry=RetryPolicy(on_wait=lambda _: waiting.set()),
    )
    own_server.kill()
    claimed: list[int] = []
    thread = threading.Thread(target=lambda: claimed.append(len(broker.settle_and_claim(0, [], 2).items)))
    thread.start()
    assert waiting.wait(5)
    own_server.start()
    thread.join(10)
    assert claimed == [2]
    assert world.balanced()
