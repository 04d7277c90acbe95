"""Answers which task the calling thread is running, for save functions that must be idempotent."""

from __future__ import annotations

import threading
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


def current_task() -> CurrentTask:
    """Return the task that this thread is running. Raises `RuntimeError` outside task and save functions."""
    current = LOCAL.current.task
    if current is None:
        raise RuntimeError("current_task() works only inside a task function or a save function")
    item, channel, device = current
    return CurrentTask(
        item[2:22].decode(), int(item[10:22]), int(item[22:24]), int(item[24:25]), channel, device
    )
