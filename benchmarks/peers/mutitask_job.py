"""The job of MutiTask's agents. Its task function is the one that the options name.

The no-op does not count itself, because MutiTask's own counters show how many tasks are done.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import kit


def noop(task: Any) -> Any:
    """Return the task."""
    return task


def nap(task: Any) -> Any:
    """Sleep, then return the task."""
    time.sleep(kit.OPTIONS.nap_ms / 1000)
    return task


def spin(task: Any) -> Any:
    """Keep a core busy, then return the task."""
    kit.add_up(kit.OPTIONS.additions)
    return task


async def nap_async(task: Any) -> Any:
    """`nap` as a coroutine."""
    await asyncio.sleep(kit.OPTIONS.nap_ms / 1000)
    return task


async def setup() -> None:
    """Open the session that all `get` tasks share."""
    global session
    if kit.OPTIONS.function == "get":
        import aiohttp

        session = aiohttp.ClientSession()


async def teardown() -> None:
    """Close that session."""
    if kit.OPTIONS.function == "get":
        await session.close()


async def get(task: int) -> int:
    """Fetch a page of the server on loopback whose address the benchmark has written. Return its status."""
    async with session.get(f"{SITE}/{task}") as answer:
        await answer.read()
        return int(answer.status)


SITE = Path(kit.OPTIONS.directory, "site").read_text() if kit.OPTIONS.function == "get" else ""


def mixed(task: int) -> list[float]:
    """Sleep 1 ms, or 2 s for each hundredth task. Return the task, process id, start and end (monotonic)."""
    started = time.monotonic()
    time.sleep(2.0 if task % 100 == 50 else 0.001)
    return [task, os.getpid(), started, time.monotonic()]


task_function = {
    "noop": noop, "nap": nap, "spin": spin, "nap_async": nap_async, "mixed": mixed, "stamp": kit.stamp, "get": get
}[kit.OPTIONS.function]  # fmt: skip

if not kit.OPTIONS.results:

    def save_function(result: Any) -> None:
        """Drop the result. With a save function no result goes to Redis."""
