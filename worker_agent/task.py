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


class _Local(threading.local):
    running: tuple[bytes, int, int] | None = None
    """The list item, the channel and the device; few task functions ask, so nothing is made of it before one does."""


LOCAL = _Local()


def current_task() -> CurrentTask:
    """The task that this thread is running. Raises `RuntimeError` outside task and save functions."""
    if LOCAL.running is None:
        raise RuntimeError("current_task() answers only inside a task function or a save function")
    item, channel, device = LOCAL.running
    return CurrentTask(
        item[2:22].decode(), int(item[10:22]), int(item[22:24]), int(item[24:25]), channel, device
    )
