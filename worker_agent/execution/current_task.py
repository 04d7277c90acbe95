"""Answers which task the calling thread or coroutine runs, for save functions that must be idempotent."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """A running task.

    - `id` and `number` are the same for all runs of the task.
    - `attempt` is how often the task has run and failed before.
    - `crashes` is how often a process ended while it ran the task.
    """

    id: str
    number: int
    attempt: int
    crashes: int
    channel: int
    device: int


class CurrentItem:
    """The list item that a thread is running. A `CurrentTask` is made only when a task function asks: few do."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: tuple[bytes, int, int] | None = None
        """The list item, the channel and the device. None between runs."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.current = CurrentItem()


LOCAL = _Local()
"""Holds each thread's own `current`."""


CONTEXT_TASK: ContextVar[tuple[bytes, int, int] | None] = ContextVar("CONTEXT_TASK", default=None)
"""The same for what runs on an event loop, and for threads that run a plain function for it."""


def current_task() -> CurrentTask:
    """Return the task that this thread or coroutine is running. Raises `RuntimeError` elsewhere."""
    current = LOCAL.current.task or CONTEXT_TASK.get()
    if current is None:
        raise RuntimeError("current_task() works only inside a task function or a save function")
    item, channel, device = current
    return CurrentTask(
        item[2:22].decode(), int(item[10:22]), int(item[22:24]), int(item[24:25]), channel, device
    )
