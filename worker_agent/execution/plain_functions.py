"""Runs plain functions in threads for an event loop. The threads never keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Returned = tuple[Any, BaseException | None]
"""What a function returned, or what it raised. A future of the loop cannot carry StopIteration or SystemExit."""


class PlainFunctions:
    """Threads that start when needed, up to a limit. Only the loop's thread calls the methods.

    Those of `concurrent.futures` keep a process alive as long as one of them hangs, so these are our own.
    """

    def __init__(self, limit: int) -> None:
        self._most = 2 * limit
        self._limit = limit
        self._calls: SimpleQueue[tuple[asyncio.Future[Returned], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = 0
        self._calls_open = 0
        """How many calls wait for a thread or run in one."""

    async def call(self, function: Callable[[Any], Any], value: Any) -> Any:
        """Return what the function returns, or raise what it raises. It sees the caller's context variables.

        If the caller is cancelled, the thread goes on, and another one may take its place.
        """
        context = contextvars.copy_context()
        future: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        self._calls_open += 1
        if self._calls_open > self._threads < self._limit:
            self._threads += 1
            threading.Thread(target=self._run, name=f"plain-{self._threads}", daemon=True).start()
        self._calls.put((future, lambda: context.run(function, value)))
        try:
            returned, error = await future
        except asyncio.CancelledError:
            if self._limit < self._most:
                self._limit += 1
            raise
        if error is not None:
            raise error
        return returned

    def _run(self) -> None:
        while (given := self._calls.get()) is not None:
            future, call = given
            returned: Returned = (None, None)
            if not future.cancelled():
                try:
                    returned = call(), None
                except BaseException as error:
                    returned = None, error
            try:
                future.get_loop().call_soon_threadsafe(self._settle, future, returned)
            except RuntimeError:  # The loop is closed: the process ends.
                return
            del given, future, call, returned

    def _settle(self, future: asyncio.Future[Returned], returned: Returned) -> None:
        self._calls_open -= 1
        if not future.cancelled():
            future.set_result(returned)
        elif self._limit > self._most // 2:
            self._limit -= 1
            if self._threads > self._limit:
                self._threads -= 1
                self._calls.put(None)
