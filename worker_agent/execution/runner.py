"""How one task is run: unpack, call, save, pack, and what is told of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import time_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from worker_agent.execution import forks
from worker_agent.execution.current_task import LOCAL
from worker_agent.protocol import wire
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.reasons import reason

if TYPE_CHECKING:
    import asyncio

TaskFunction = Callable[[Any], Any]
SaveFunction = Callable[[Any], Any]


class Runner:
    """Runs tasks in the thread that made it, one at a time. Coroutines run on a loop of its own."""

    def __init__(
        self, task_function: TaskFunction, save_function: SaveFunction | None, device: int, channel: int
    ) -> None:
        self._task_function = task_function
        self._save_function = save_function
        self._device = device
        self._channel = channel
        self._pack = wire.Packing().pack
        self._loop: asyncio.Runner | None = None
        self._forks = forks.count
        self._running = LOCAL.running

    def run(self, item: bytes) -> tuple[bytes, bytes]:
        """What came of one list item: a settlement's letter, and what goes with it. Never raises."""
        try:
            return self._run(item)
        except wire.Undecodable as error:
            return b"x", self._reason("decode", error)
        except BaseException as error:
            # A slot must outlive whatever a person's classes and functions do to ours.
            return b"f", self._reason("run", error)
        finally:
            self._running.task = None

    def _run(self, item: bytes) -> tuple[bytes, bytes]:
        self._running.task = (item, self._channel, self._device)
        task = wire.unpack(item[wire.HEADER_BYTES :])
        try:
            result = self._call(self._task_function, task)
        except BaseException as error:
            return b"f", self._reason("run", error)
        if result is None:
            return b"f", self._reason("run", None)
        if self._save_function is not None:
            try:
                self._call(self._save_function, result)
            except BaseException as error:
                return b"f", self._reason("save", error)
            return b"s", b""
        try:
            packed = self._pack([self._device, time_ns() // 1_000_000, result])
        except Unpackable as error:
            return b"f", self._reason("result", error)
        return b"d", item[: wire.HEADER_BYTES] + packed

    def _call(self, function: Callable[[Any], Any], value: Any) -> Any:
        try:
            returned = function(value)
            # By what came back, not by the function: a lambda or a wrapper can return a coroutine too.
            if type(returned) is CoroutineType:
                if self._loop is None:
                    import asyncio

                    self._loop = asyncio.Runner()
                return self._loop.run(returned)
            return returned
        finally:
            if forks.count != self._forks:
                forks.end_copy(sys.exc_info()[1])

    def close(self) -> None:
        """End the loop, if there is one."""
        if self._loop is not None:
            self._loop.close()

    def _reason(self, stage: str, error: BaseException | None) -> bytes:
        return reason(stage, error, self._device, __file__)


class ProcessDied(Exception):
    """A child process ended while it ran a task."""


def timed_out(timeout: float, device: int) -> tuple[bytes, bytes]:
    """What came of a run that outlasted its time: it failed like others."""
    error = TimeoutError(f"it ran longer than the limit of {timeout:g} s (--timeout)")
    return b"f", reason("timeout", error, device)


def child_died(how: str, device: int) -> tuple[bytes, bytes]:
    """What came of a run whose process died: a crash, which uses up no retry (law 9)."""
    error = ProcessDied(f"its process died three times while it ran, the last time with {how}")
    return b"c", reason("crashed", error, device)
