"""Runs one task on an event loop: awaits coroutines there, and calls plain functions in threads."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from time import time_ns
from typing import Any

from worker_agent.execution import forks
from worker_agent.execution.current_task import CONTEXT_TASK
from worker_agent.execution.lifecycle import Lifecycle
from worker_agent.execution.plain_functions import PlainFunctions
from worker_agent.execution.runner import body_of, failed, undecodable
from worker_agent.execution.speech import SPEAKING
from worker_agent.execution.task_lines import end_run
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.settlements import DONE, SAVED
from worker_agent.settings import Functions, is_async

MAX_THREADS = 1_000
"""The most plain functions that run at once."""

Call = Callable[[Any], Awaitable[Any]]


class AsyncRunner:
    """Runs tasks of one event loop, many at once. Only the loop's thread uses it."""

    def __init__(self, functions: Functions, device: int, concurrency: int, lifecycle: Lifecycle) -> None:
        self._functions = functions
        self._device = device
        self._lifecycle = lifecycle
        self._threads = PlainFunctions(min(concurrency, MAX_THREADS))
        self._calls: dict[int, tuple[Call, Call | None]] = {}
        self._pack = wire.ValuePacker().pack
        self._forks = forks.count
        self.in_thread: set[bytes] = set()
        """The ids of the tasks whose plain function runs in a thread now."""

    async def run(self, item: bytes, channel: int) -> tuple[bytes, bytes]:
        """Run a list item of a channel, and return its outcome and the bytes that the outcome carries. Never raises.

        A cancelled run returns a failure at the stage that it had reached.
        """
        CONTEXT_TASK.set((item, channel, self._device))
        stage = "run"
        try:
            calls = self._calls.get(channel) or await self._calls_of(channel)
            try:
                task = wire.unpack(body_of(item))
            except wire.Undecodable as error:
                return undecodable(error, self._device, __file__)
            result = await calls[0](task)
            if result is None:
                return failed(stage, None, self._device)
            if calls[1] is not None:
                stage = "save"
                await calls[1](result)
                return SAVED, b""
            stage = "result"
            packed = self._pack([self._device, time_ns() // 1_000_000, result])
            return DONE, list_item.result_header(item) + packed
        except BaseException as error:
            # The loop must survive whatever a user's functions raise, SystemExit too.
            return failed(stage, error, self._device, __file__)
        finally:
            if SPEAKING:
                end_run((item, channel, self._device))
            if forks.count != self._forks:
                forks.end_copy(None)

    async def _calls_of(self, channel: int) -> tuple[Call, Call | None]:
        await self._lifecycle.enter_async([channel])
        task_function, save_function = self._functions(channel)
        calls = self._call_of(task_function), None if save_function is None else self._call_of(save_function)
        return self._calls.setdefault(channel, calls)

    def _call_of(self, function: Callable[[Any], Any]) -> Call:
        return function if is_async(function) else functools.partial(self._call_plain, function)

    async def _call_plain(self, function: Callable[[Any], Any], value: Any) -> Any:
        """Call a plain function in a thread, and await what it returns if that is a coroutine."""
        current = CONTEXT_TASK.get()
        id_ = current[0][2:22] if current is not None else b""
        self.in_thread.add(id_)
        try:
            returned = await self._threads.call(function, value)
        finally:
            self.in_thread.discard(id_)
        return await returned if inspect.isawaitable(returned) else returned
