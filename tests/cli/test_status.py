"""`mutitask status`: the names that scripts use, the right numbers, and the text for a person."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.status import to_lines
from tests.cli.tools import Stack, mutitask
from worker_agent.protocol.identity import this_process

CHANNEL: dict[str, type | tuple[type, ...]] = {
    "id": int, "capacity": int, "waiting": int, "claimed": int, "delayed": int, "done": int, "failed": int,
    "deleted": int, "allotted": int, "balanced": bool, "allotting": bool, "exhausted": bool,
}  # fmt: skip
ALSO = {"errors": int, "paused": bool, "foreign": int, "halted": str, "results": int, "rate_limit": str}
"""The names of a channel in addition to those of the interface."""
DEVICE: dict[str, type | tuple[type, ...]] = {
    "id": int, "state": str, "wished": str, "host": str, "pid": int, "channel": int, "channels": list, "running": int,
    "tasks": list, "done": int, "errors": int, "failed": int, "seen_s": (float, type(None)), "job": str,
    "job_changed": bool,
}  # fmt: skip
SERVER: dict[str, type | tuple[type, ...]] = {
    "host": str,
    "pid": int,
    "since": float,
    "allotting": bool,
    "job": str,
}


def check(record: dict[str, Any], types: dict[str, Any]) -> None:
    assert set(record) == set(types)
    for name, kind in types.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        assert type(record[name]) in kinds, f"{name}: {record[name]!r}"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that each task waits for."""
    event = threading.Event()
    yield event
    event.set()


def test_names_types_and_numbers(redis_url: str, client: redis.Redis, gate: threading.Event) -> None:
    started = threading.Event()

    def held(task: int) -> int | None:
        if task == 4:
            started.set()
            gate.wait(20)
        return None if task == 1 else task

    with Stack(redis_url, "books", iter(range(8)), iter("abc"), devices=3, capacity=6, retries=0) as stack:
        stack.until(lambda s: s.channels[0].waiting == 6 and s.channels[1].exhausted)
        stack.agent(1, task_function=held)
        stack.done("start_one", 1)
        assert started.wait(15)
        # 0, 2, 3 done, 1 failed, 4 runs. 5, 6, 7 wait, or are claimed until the agent hands them back.
        stack.until(lambda s: s.channels[0].waiting == 3 and s.devices[1].running == 1)

        status = stack.status()

        assert set(status) == {"name", "server", "channels", "devices", "bodies", "troubles"}
        assert status["name"] == "books"
        assert status["bodies"] == {"stored": 0, "removed": 0, "missing": 0}
        check(status["server"], SERVER)
        assert (
            status["server"]["host"] == this_process().host and status["server"]["pid"] == this_process().pid
        )
        now, _ = client.time()
        assert abs(status["server"]["since"] - now) < 30
        assert status["server"]["allotting"] is True
        for channel in status["channels"]:
            check(channel, CHANNEL | ALSO)
        for device in status["devices"]:
            check(device, DEVICE)
        assert status["channels"][0] == {
            "id": 0, "capacity": 6, "waiting": 3, "claimed": 1, "delayed": 0, "done": 3, "failed": 1, "deleted": 0,
            "allotted": 8, "balanced": True, "allotting": False, "exhausted": True, "paused": False, "foreign": 0,
            "halted": "", "results": 3, "errors": 1, "rate_limit": "",
        }  # fmt: skip
        assert status["channels"][1]["waiting"] == 3
        offline, running, _ = status["devices"]
        assert (offline["state"], offline["wished"], offline["seen_s"]) == ("offline", "paused", None)
        assert offline["channels"] == [] and running["channels"] == [0]
        assert (running["state"], running["wished"], running["channel"]) == ("running", "running", 0)
        assert (running["running"], running["done"], running["errors"], running["failed"]) == (1, 3, 1, 1)
        assert running["pid"] == this_process().pid and running["host"] == this_process().host
        assert 0 <= running["seen_s"] < 5
        gate.set()
        stack.until(lambda s: s.channels[0].done == 7)

    after = stack.status()
    assert after["server"] is None
    assert [device["state"] for device in after["devices"]] == ["offline"] * 3
    assert after["channels"][0]["balanced"] is True


def test_a_paused_feed_is_reported(redis_url: str) -> None:
    with Stack(redis_url, "paused", iter(range(100)), capacity=5) as stack:
        stack.done("pause_allot")
        assert stack.status()["server"]["allotting"] is False
        assert stack.status()["channels"][0]["allotting"] is False
        stack.done("start_allot")
        assert stack.status()["channels"][0]["allotting"] is True
        stack.done("pause_channel", 0)
        assert stack.status()["channels"][0]["paused"] is True


def test_for_a_person(redis_url: str) -> None:
    with Stack(redis_url, "person", iter(range(3)), devices=1) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        result = mutitask("status", "--redis", redis_url, "--name", "person")
    assert result.status == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("namespace person on 127.0.0.1:")
    assert lines[1] == f"server {this_process().host} pid {this_process().pid}"
    assert lines[2] == (
        "TaskChannel0: 3/50 waiting, 0 claimed, 0 delayed, 0 done, 0 failed, 0 deleted of 3 allotted, 0 errors; "
        "exhausted; counters balanced"
    )
    assert lines[3] == "Device0: offline, 0 running, 0 done, 0 errors, never seen"
    assert len(lines) == 4


def test_results_at_their_limit_stop_the_feed_and_the_status_says_why(redis_url: str) -> None:
    with Stack(redis_url, "cap", iter(range(60)), capacity=10, results_max=20) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.done("start_all")
        full = stack.until(lambda s: s.channels[0].halted and s.channels[0].open == 0)

        assert 20 <= full.channels[0].results <= 30
        why = stack.status()["channels"][0]
        assert why["halted"] == f"{why['results']} results wait to be drained (at most 20)"
        assert why["allotting"] is False and why["exhausted"] is False
        assert why["halted"] in "\n".join(to_lines(full))

        seen = [line["number"] for _ in range(10) for line in drain(stack)]

        assert sorted(seen + [line["number"] for line in drain(stack)]) == list(range(60))
        assert stack.channel().balanced


def drain(stack: Stack) -> list[Any]:
    """Wait until the feed has stopped or ended, and drain the results."""
    stack.until(lambda s: s.channels[0].open == 0 and (s.channels[0].halted or s.channels[0].exhausted))
    return mutitask("results", "export", "--drain", "--redis", stack.url, "--name", stack.name).lines


def test_a_retry_waits_for_its_delay(redis_url: str) -> None:
    with Stack(redis_url, "delay", iter([7]), retries=1, retry_delay_ms=1500) as stack:
        stack.agent(0)
        stack.done("start_all")
        stack.until(lambda s: s.channels[0].delayed == 1)
        assert stack.status()["channels"][0]["delayed"] == 1
        began = stack.snapshot().now_ms
        after = stack.until(lambda s: s.channels[0].failed == 1)
        assert after.channels[0].delayed == 0 and after.balanced
        assert after.now_ms - began >= 1000
        (task,) = Reader(redis_url, "delay").failed_tasks(0, 0, 10)
        assert task.runs == 2
