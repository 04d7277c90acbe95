"""The task that the calling thread is running, for save functions that must be idempotent."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """A running task. `id` is the same for all its runs, `attempt` counts its failed runs so far."""

    id: str
    number: int
    attempt: int
    crashes: int
    channel: int
    device: int


class Running:
    """What a thread is running. Few task functions ask, so nothing is made of it before one does."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: tuple[bytes, int, int] | None = None
        """The list item, the channel and the device."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.running = Running()


LOCAL = _Local()
"""Holds a thread's own `running`."""


def current_task() -> CurrentTask:
    """The task that this thread is running. Raises `RuntimeError` outside task and save functions."""
    running = LOCAL.running.task
    if running is None:
        raise RuntimeError("current_task() answers only inside a task function or a save function")
    item, channel, device = running
    return CurrentTask(
        item[2:22].decode(), int(item[10:22]), int(item[22:24]), int(item[24:25]), channel, device
    )
