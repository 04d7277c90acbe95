"""A fleet on a cluster or behind Sentinels: helpers that tolerate failovers, and a job that records its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from mutitask_tui.server.snapshot import ChannelView
from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program
from tests.support.waiting import wait_until
from worker_agent.protocol.errors import RedisUnavailable

FleetOn = Callable[[Any], Fleet]
"""The fixture `fleet_on`: a namespace on a cluster or behind Sentinels."""
COUNT = 1_500
"""The number of tasks of `start_work`."""

LOST = "it lost its last writes; start the server again with --resume"


def counting_job(fleet: Fleet, count: int, seconds: float = 0.002) -> None:
    """Write a job that negates `count` numbers. Each run appends a line to the file `runs` in the folder."""
    fleet.job(
        f"""
        import time
        from pathlib import Path

        def tasks():
            yield from range({count})

        def task_function(task):
            with Path(FOLDER, "runs").open("a") as file:
                file.write(f"{{task}}\\n")
            time.sleep({seconds})
            return -task
        """
    )


def start_work(fleet: Fleet, done: int) -> tuple[Program, list[Program]]:
    """Start a server and two agents on `COUNT` tasks. Return when at least `done` of them are done."""
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    for agent in agents:
        # An agent that does not take tasks yet sends no calls and would not notice a failover.
        wait_for_text(agent, "taking tasks")
    wait_for(fleet, lambda counters: counters.done >= done)
    return server, agents


def runs(folder: Path) -> list[int]:
    """Return the task of each run until now."""
    return [int(line) for line in (folder / "runs").read_text().split()]


def read_counters(fleet: Fleet) -> ChannelView | None:
    """Return the counters of channel 0 and check that they are balanced. None while Redis is away."""
    try:
        counters = fleet.counters()
    except RedisUnavailable:
        return None
    assert counters.balanced, counters
    return counters


def wait_for(fleet: Fleet, condition: Callable[[ChannelView], object], timeout: float = 30.0) -> ChannelView:
    """The counters as soon as they meet the condition."""

    def met() -> ChannelView | None:
        counters = read_counters(fleet)
        return counters if counters and condition(counters) else None

    return wait_until(met, timeout, what="the counters meet the condition")


def wait_until_done(fleet: Fleet, server: Program, count: int, *options: str) -> Program:
    """Wait until every task is done. Return the last server.

    Starts the server again with `--resume` if it reports that Redis lost writes.
    """

    def over() -> Program | None:
        nonlocal server
        if not server.running:
            assert server.wait() == 1 and LOST in server.stderr, server
            server = fleet.newcomer("--resume", *options)
        counters = read_counters(fleet)
        done = counters and counters.exhausted and counters.allotted == count and counters.open == 0
        return server if done else None

    try:
        last = wait_until(over, 40, what="every task is done")
    except AssertionError as error:
        raise AssertionError(f"{error}: {fleet.snapshot()} {server}") from None
    wait_until(lambda: client_is_back(fleet), what="the test's own client found the new master")
    return last


def client_is_back(fleet: Fleet) -> bool:
    """Return whether the fleet's own client, which has no retries, is connected again."""
    try:
        return bool(fleet.client.exists(fleet.keys.meta))
    except redis.ConnectionError:
        return False
