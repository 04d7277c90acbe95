"""How many connections an agent holds: two at rest, few when it works, and none of them after it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

USER = "counted"
JOB = """
import time
from pathlib import Path

def one():
    while not Path(FOLDER, "end").exists():
        if Path(FOLDER, "more").exists():
            Path(FOLDER, "more").unlink()
            yield 0.0
        time.sleep(0.01)

def others():
    yield 0.0

tasks = [one, *[others] * (CHANNELS - 1)]

def task_function(seconds):
    time.sleep(seconds)
    return seconds
"""
LONG = """
import time

def tasks():
    yield from [600.0] * 3

def task_function(seconds):
    time.sleep(seconds)
"""


@contextmanager
def counted(fleet: Fleet) -> Iterator[str]:
    """Make a user for one agent, so that Redis can tell its connections from others. Yield the URL."""
    fleet.client.execute_command("ACL", "SETUSER", USER, "on", "nopass", "~*", "&*", "+@all")
    try:
        yield f"redis://{USER}:any@127.0.0.1:{fleet.redis.port}/0"
    finally:
        fleet.client.execute_command("ACL", "DELUSER", USER)


def connections(client: redis.Redis) -> list[str]:
    """Return the last command of each of the agent's connections."""
    return [str(each["cmd"]) for each in client.client_list() if each["user"] == USER]


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("paused", [False, True], ids=["started", "paused"])
def test_an_agent_at_rest_holds_two_connections(fleet: Fleet, kind: str, channels: int, paused: bool) -> None:
    fleet.job(JOB.replace("CHANNELS", str(channels)))
    fleet.serve()
    with counted(fleet) as url:
        fleet.start("worker-agent", fleet.job_path, "--kind", kind, "--concurrency", "2", redis_url=url)
        (fleet.folder / "more").touch()
        wait_until(lambda: fleet.counters().done == 1, 20, what="a task is done")
        if paused:
            fleet.ctl("pause_all")
        wait_until(lambda: len(connections(fleet.client)) == 2, 20, what="two connections are left")

        # Work and a command bring it back to two.
        if not paused:
            (fleet.folder / "more").touch()
            wait_until(lambda: fleet.counters().done == 2, 20, what="another task is done")
        fleet.ctl("detect_all")
        wait_until(lambda: sorted(connections(fleet.client)) == ["blpop", "evalsha"], 20, what="two again")
    (fleet.folder / "end").touch()


def test_a_busy_agent_holds_three_connections_at_most(fleet: Fleet) -> None:
    fleet.job(LONG)
    fleet.serve()
    with counted(fleet) as url:
        fleet.start("worker-agent", fleet.job_path, redis_url=url)
        wait_until(lambda: any(device.running for device in fleet.snapshot().devices), 20, what="a task runs")
        seen = []
        for _ in range(3):
            fleet.ctl("detect_all")
            seen.append(len(connections(fleet.client)))
        assert max(seen) <= 3, connections(fleet.client)
