"""Lets plain code use a job's async generators and functions, on one event loop in a thread of its own."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

READ_AHEAD_ITEMS = 1_000
"""How many items of an async generator are read before they are needed."""


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process. Its thread runs until the process ends."""
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="job-loop", daemon=True).start()
    return loop


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on that loop. Return what it returns, or raise what it raises."""
    import asyncio

    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs what this one returns, if that is a coroutine."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        returned = function(*args)
        return run(returned) if inspect.iscoroutine(returned) else returned

    return call


class AsyncItems:
    """An iterator over an async generator, for one thread. The loop reads ahead by up to `READ_AHEAD_ITEMS`."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._room: asyncio.Event | None = None

    def __iter__(self) -> AsyncItems:
        return self

    def __next__(self) -> Any:
        """Return the next item. Raises what the generator raised, after the items before."""
        import asyncio

        if self._room is None:
            self._room = asyncio.Event()
            asyncio.run_coroutine_threadsafe(self._read(self._room), _loop())
        if not self._items:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
        try:
            item = self._items.popleft()
        except IndexError:
            error, self._error = self._error, None
            raise error or StopIteration from None
        if len(self._items) == READ_AHEAD_ITEMS // 2:
            _loop().call_soon_threadsafe(self._room.set)
        return item

    async def _read(self, room: asyncio.Event) -> None:
        items, source = self._items, self._source
        try:
            async for item in source:
                items.append(item)
                if len(items) == 1:
                    with self._changed:
                        self._changed.notify()
                elif len(items) >= READ_AHEAD_ITEMS:
                    room.clear()
                    if len(items) > READ_AHEAD_ITEMS // 2:
                        await room.wait()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()
