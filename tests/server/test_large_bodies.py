"""Large tasks and results from the generator to the exported line, in threads and in child processes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mutitask_tui.server.core import ServerCore
from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.status import to_lines
from tests.cli.tools import Stack, mutitask, no_agents_left
from tests.crashes.fleet import NAME as FLEET_NAME
from tests.crashes.fleet import Fleet, closing
from tests.run_plan import run_plan
from tests.support.programs import Program
from tests.support.redis_server import RealServer
from worker_agent.protocol import list_item
from worker_agent.protocol.bodies import key_prefix
from worker_agent.protocol.keys import Keys

__all__ = ["no_agents_left"]

NAME = "large"
SIZES = (10, 5_000, 20_000, 3_000_000)
"""Of tasks: two are inline, one is apart, one is larger than a claim."""


def large(count: int = 12) -> Iterator[dict[str, Any]]:
    return ({"n": n, "data": bytes([n]) * SIZES[n % len(SIZES)]} for n in range(count))


def bodies(client: redis.Redis, name: str = NAME) -> int:
    return len(client.keys(key_prefix(name) + b"*"))


def test_large_tasks_and_results_travel_whole_and_leave_nothing(redis_url: str, client: redis.Redis) -> None:
    with Stack(redis_url, NAME, large(), devices=1, autostart=True, capacity=5) as stack:
        stack.agent(0, task_function=lambda task: [task["n"], task["data"]])
        stack.until_all_settled()
        assert stack.channel().done == 12
        assert bodies(client) == 6  # The results of the two larger sizes.
        lines = mutitask("results", "export", "--drain", "--redis", redis_url, "--name", NAME).lines
        found = {line["result"][0]: base64.b64decode(line["result"][1]["$bytes"]) for line in lines}
        assert found == {task["n"]: task["data"] for task in large()}
        assert bodies(client) == 0


def test_large_tasks_that_fail_can_be_seen_exported_edited_and_deleted(
    redis_url: str, client: redis.Redis, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Stack(redis_url, NAME, large(4), devices=1, autostart=True, retries=1) as stack:
        stack.agent(0, task_function=lambda _: None)
        stack.until(lambda s: s.channels[0].failed == 4)
        assert bodies(client) == 2
        client.hset(Keys(NAME).meta, mapping={"bodies": 2, "bodies_removed": 5, "bodies_missing": 1})
        lines = to_lines(stack.snapshot())
        assert "large bodies: 2 stored, 5 removed that no task needed, 1 missing" in lines
        assert any(line.startswith("! 1 task or result has lost the body in Redis") for line in lines)
        inspector = Inspector(redis_url, NAME)
        shown = {task.number: task.task for task in inspector.failed_tasks(0, 0, 10)}
        assert shown[3] == "(a large task, 3.0 MB)" and "data" in shown[2]
        ids = {task.number: task.id for task in inspector.failed_tasks(0, 0, 10)}
        detail = inspector.failed_task(0, ids[3])
        assert detail and detail.payload == list(large(4))[3] and detail.size > 3_000_000
        path = stack.done("export_fail_tasks")["path"]
        exported = [len(line) for line in Path(path).read_text().splitlines()]
        assert max(exported) > 4_000_000 and len(exported) == 4
        stack.done("delete_one_fail_task", 0, ids[2])
        assert bodies(client) == 1
        stack.done("edit_fail_task", 0, ids[3], '"small"')
        stack.until(lambda s: s.channels[0].failed == 3)
        assert bodies(client) == 0


def test_a_peek_shows_small_bodies_and_the_size_of_large_ones(redis_url: str) -> None:
    with Stack(redis_url, NAME, large(4), devices=1, capacity=9) as stack:
        stack.until(lambda s: s.channels[0].waiting == 4)
        inspector = Inspector(redis_url, NAME)
        tasks = inspector.waiting_tasks(0, 9)
        assert [task.number for task in tasks] == [0, 1, 2, 3]
        assert "data" in tasks[2].task and tasks[2].size > 20_000
        assert tasks[3].task == "(a large task, 3.0 MB)" and tasks[3].size > 3_000_000
        stack.agent(0, task_function=lambda task: task)
        stack.done("start_all")
        stack.until_all_settled()
        results = {view.number: view.result for view in inspector.last_results(0, 9)}
        assert results[3] == "(a large result, 3.0 MB)" and "data" in results[2]


@pytest.fixture
def wait(wait_until: Callable[..., Any]) -> Callable[..., Any]:
    return wait_until


def feed(url: str, items: Iterator[Any], **plan: Any) -> ServerCore:
    core = ServerCore(url, NAME, run_plan(channels=1, devices=0, **plan), [items])
    core.open()
    core.start()
    return core


def test_a_full_channel_stores_no_more_bodies_than_one_push_takes(
    redis_url: str, client: redis.Redis, wait: Callable[..., Any]
) -> None:
    at = Keys(NAME).channel(0)
    core = feed(redis_url, iter(["x" * 100_000] * 200), capacity=5)
    try:
        wait(lambda: client.llen(at.waiting) == 5)
        wait(lambda: bodies(client) > 5)
        core._allotter.retry_blocked()  # type: ignore[union-attr]
        assert bodies(client) <= 5 + 11
        client.hset(at.counters, "capacity", 500)
        core._allotter.retry_blocked()  # type: ignore[union-attr]
        wait(lambda: client.hget(at.counters, "exhausted") == b"1")
        assert client.llen(at.waiting) == bodies(client) == 200
        numbers = [list_item.parse(item).number for item in client.lrange(at.waiting, 0, -1)]
        assert numbers == list(range(200))
    finally:
        core.stop()
    assert core.failure is None


def test_a_resumed_feed_knows_its_large_items_and_another_generators(
    redis_url: str, client: redis.Redis, wait: Callable[..., Any]
) -> None:
    at = Keys(NAME).channel(0)
    texts = [f"{n}" + "x" * 20_000 for n in range(60)]
    core = feed(redis_url, iter(texts), capacity=30)
    wait(lambda: client.llen(at.waiting) == 30)
    core.stop()
    core = feed(redis_url, iter(texts), capacity=100, mode="resume")
    wait(lambda: client.hget(at.counters, "exhausted") == b"1")
    core.stop()
    assert client.llen(at.waiting) == bodies(client) == 60
    core = feed(redis_url, (text + "!" for text in texts), capacity=100, mode="resume")
    wait(lambda: client.hget(at.counters, "halted"))
    assert b"not the same generator" in client.hget(at.counters, "halted")
    core.stop()


def test_a_fresh_run_removes_the_bodies_of_the_former_one_at_once(
    redis_url: str, client: redis.Redis, wait: Callable[..., Any]
) -> None:
    at = Keys(NAME).channel(0)
    core = feed(redis_url, iter(["x" * 20_000] * 7), capacity=30)
    wait(lambda: client.llen(at.waiting) == 7)
    core.stop()
    core = feed(redis_url, iter(["y" * 20_000] * 2), capacity=30, mode="fresh")
    wait(lambda: client.llen(at.waiting) == 2 and bodies(client) == 2)
    core.stop()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_both_kinds_of_agents_run_large_tasks(
    shared_server: RealServer, redis_url: str, spawn: Callable[..., Program], tmp_path: Any, kind: str
) -> None:
    with closing(Fleet(shared_server, spawn, tmp_path)) as fleet:
        fleet.job(
            """
            def tasks():
                for number in range(9):
                    yield [number, "x" * 40_000 * (number % 3)]

            def task_function(task):
                return [task[0], len(task[1]), task[1]]
            """
        )
        server = fleet.serve("--until-done")
        fleet.agent("--device", "0", "--kind", kind, "--concurrency", "2")
        assert server.wait() == 0, server
        found = sorted((each.value[0], each.value[1], len(each.value[2])) for each in fleet.results())
        assert found == [(n, 40_000 * (n % 3), 40_000 * (n % 3)) for n in range(9)]
        with shared_server.client() as client:
            assert bodies(client, FLEET_NAME) == 6
