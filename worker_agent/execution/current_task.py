"""Answers which task the calling thread or coroutine runs, and takes what that task says about its progress."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass
from logging import Logger
from numbers import Real
from typing import Any, Protocol

from worker_agent.console.log import ProtectedLogger
from worker_agent.execution import forks
from worker_agent.execution.speech import Progress, Speech
from worker_agent.protocol.task_line import TaskLine
from worker_agent.protocol.text import shown

MOST = 1e18
"""The highest number that `progress` takes."""
NOTE_CHARACTERS = 200
"""Progress notes are cut to this length."""

TASK_LOG = ProtectedLogger("task")
"""The logger of all tasks: `current_task().log`. Its handler is in `task_lines.py`."""

CurrentEntry = tuple[bytes, int, int]
"""The list item of a running task, its channel, and the device."""


class Registry(Protocol):
    """What this process knows of its runs, by the ids of their tasks (20 bytes). The executor here adds it."""

    def has(self, id_: bytes) -> bool:
        """Return whether the task runs here."""

    def set_progress(self, id_: bytes, progress: Progress) -> None:
        """Note how far a run is."""

    def is_cancelled(self, id_: bytes) -> bool:
        """Return whether a run should end: somebody asked to cancel it, or its outcome no longer counts."""

    def deadline(self, id_: bytes) -> float | None:
        """Return when the time limit of a run ends, in seconds since the epoch. None without a limit."""

    def attach(self, id_: bytes, speech: Speech) -> None:
        """Let a run that says something for the first time have this speech."""

    def add_line(self, line: TaskLine) -> None:
        """Take a line for the device's screen."""

    def end(self, id_: bytes, speech: Speech) -> None:
        """Take the end of a run that has said something."""


_registries: list[Registry] = []
"""Nearly always one. Several agents may share a process, each with its own."""
_forks = 0
"""The count of forks in the process that has the registries."""


def add_registry(registry: Registry) -> None:
    """Let `current_task()` find the runs of this registry."""
    global _forks
    _forks = forks.count
    _registries.append(registry)


def remove_registry(registry: Registry) -> None:
    """Forget a registry, if it is there."""
    if registry in _registries:
        _registries.remove(registry)


def registry_of(id_: bytes) -> Registry | None:
    """Return the registry that has the run of this task. None in a process that a task has forked."""
    if forks.count != _forks:
        return None  # Its copies of locks and pipes are of no use.
    if len(_registries) == 1:
        return _registries[0]
    return next((registry for registry in _registries if registry.has(id_)), None)


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

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far this run is: `done` of `total`, with a short note. Dashboards show the last call.

        It may be called very often. Raises `TypeError` or `ValueError` for numbers and notes that cannot be shown.
        """
        progress = _number("done", done), None if total is None else _number("total", total), _note(text)
        id_ = self.id.encode()
        if (registry := registry_of(id_)) is not None:
            registry.set_progress(id_, progress)

    @property
    def log(self) -> Logger:
        """A logger whose lines go where this task's printed lines go: from INFO on."""
        return TASK_LOG

    @property
    def cancelled(self) -> bool:
        """Whether this run should end: somebody asked to cancel it, or its time limit has ended.

        A thread can only be asked. So a task function that runs long in a thread looks here now and then.
        """
        id_ = self.id.encode()
        registry = registry_of(id_)
        return registry is not None and registry.is_cancelled(id_)

    @property
    def deadline(self) -> float | None:
        """When the time limit of this run ends, comparable with `time.time()`. None if it has no limit."""
        id_ = self.id.encode()
        registry = registry_of(id_)
        return None if registry is None else registry.deadline(id_)


class CurrentItem:
    """The list item that a thread is running. A `CurrentTask` is made only when a task function asks: few do."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: CurrentEntry | None = None
        """The list item, the channel and the device. None between runs."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.current = CurrentItem()


LOCAL = _Local()
"""Holds each thread's own `current`."""

CONTEXT_TASK: ContextVar[CurrentEntry | None] = ContextVar("CONTEXT_TASK", default=None)
"""The same for what runs on an event loop, and for threads that run a plain function for it."""


def current_entry() -> CurrentEntry | None:
    """Return the list item, the channel and the device of the task that the caller runs. None outside of runs."""
    return LOCAL.current.task or CONTEXT_TASK.get()


def current_task() -> CurrentTask:
    """Return the task that this thread or coroutine is running.

    Raises `RuntimeError` outside task and save functions.
    """
    current = current_entry()
    if current is None:
        raise RuntimeError("current_task() works only inside a task function or a save function")
    item, channel, device = current
    return CurrentTask(
        item[2:22].decode(), int(item[10:22]), int(item[22:24]), int(item[24:25]), channel, device
    )


def _number(name: str, value: Any) -> float:
    number: float
    if type(value) is int or type(value) is float:
        number = value
    elif isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
    else:
        raise TypeError(f"progress: {name} must be a number, not {shown(value)[:80]}")
    if not 0 <= number <= MOST:
        raise ValueError(f"progress: {name} must be from 0 to 10**18, not {shown(value)[:80]}")
    return number


def _note(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"progress: text must be a string, not {shown(text)[:80]}")
    return str(text[:NOTE_CHARACTERS])
