"""A fleet on a cluster or behind Sentinels: looks that are patient, and a job that counts its runs."""

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
"""Tasks of a fleet that is at work."""

LOST = "it lost its last writes; start the server again with --resume"


def counting_job(fleet: Fleet, count: int, seconds: float = 0.002) -> None:
    """`count` numbers to negate; each run leaves a line in the folder's file `runs`."""
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


def at_work(fleet: Fleet, done: int) -> tuple[Program, list[Program]]:
    """The server and two agents on `COUNT` tasks, of which at least `done` are done."""
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    for agent in agents:
        # One that has not been told yet to take tasks asks Redis for nothing, and misses nothing.
        wait_for_text(agent, "taking tasks")
    wait_for(fleet, lambda books: books.done >= done)
    return server, agents


def runs(folder: Path) -> list[int]:
    """The task of each run so far."""
    return [int(line) for line in (folder / "runs").read_text().split()]


def look(fleet: Fleet) -> ChannelView | None:
    """The books of channel 0, which balance; None while Redis is away."""
    try:
        books = fleet.counters()
    except RedisUnavailable:
        return None
    assert books.balanced, books
    return books


def wait_for(fleet: Fleet, condition: Callable[[ChannelView], object], timeout: float = 30.0) -> ChannelView:
    """The books as soon as they meet the condition."""

    def met() -> ChannelView | None:
        books = look(fleet)
        return books if books and condition(books) else None

    return wait_until(met, timeout, what="the books meet the condition")


def see_through(fleet: Fleet, server: Program, count: int, *options: str) -> Program:
    """Wait until all is done; a server that says that Redis lost writes is started again with `--resume`.

    Returns the last server.
    """

    def over() -> Program | None:
        nonlocal server
        if not server.running:
            assert server.wait() == 1 and LOST in server.stderr, server
            server = fleet.newcomer("--resume", *options)
        books = look(fleet)
        done = books and books.exhausted and books.allotted == count and books.open == 0
        return server if done else None

    try:
        last = wait_until(over, 40, what="every task is done")
    except AssertionError as error:
        raise AssertionError(f"{error}: {fleet.snapshot()} {server}") from None
    wait_until(lambda: client_is_back(fleet), what="the test's own client found the new master")
    return last


def client_is_back(fleet: Fleet) -> bool:
    """Whether the fleet's own client, which repeats nothing, is connected again."""
    try:
        return bool(fleet.client.exists(fleet.keys.meta))
    except redis.ConnectionError:
        return False
