"""The job of the benchmark's agents: the function that was asked for; the no-op does not even count itself."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import kit


def noop(task: Any) -> Any:
    """Give the task back."""
    return task


def nap(task: Any) -> Any:
    """Sleep, then give the task back."""
    time.sleep(kit.OPTIONS.nap_ms / 1000)
    return task


async def nap_async(task: Any) -> Any:
    """The same as a coroutine."""
    await asyncio.sleep(kit.OPTIONS.nap_ms / 1000)
    return task


def mixed(task: int) -> list[float]:
    """1 ms, or 2 s for each hundredth task; who ran it, when it began and when it ended (monotonic)."""
    began = time.monotonic()
    time.sleep(2.0 if task % 100 == 50 else 0.001)
    return [task, os.getpid(), began, time.monotonic()]


task_function = {
    "noop": noop, "nap": nap, "nap_async": nap_async, "mixed": mixed, "stamp": kit.stamp
}[kit.OPTIONS.function]  # fmt: skip

if not kit.OPTIONS.results:

    def save_function(result: Any) -> None:
        """Let it go: what is saved by a function does not go to Redis."""
