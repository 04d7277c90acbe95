"""Runs one task: unpacks it, calls the functions, packs the result, and returns the outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from time import time_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from worker_agent.execution import forks
from worker_agent.execution.current_task import LOCAL
from worker_agent.execution.speech import SPEAKING
from worker_agent.execution.task_lines import end_run, last_lines
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.reasons import reason
from worker_agent.protocol.retry_policy import GiveUp, Retry, class_names
from worker_agent.protocol.settlements import (
    CRASHED,
    DONE,
    FAILED,
    GIVE_UP,
    RETRY,
    SAVED,
    UNDECODABLE,
    failure,
)
from worker_agent.settings import Functions, SaveFunction, TaskFunction

if TYPE_CHECKING:
    import asyncio


_BODY_AT = list_item.HEADER_BYTES
_FORM_AT = _BODY_AT - 1


class Runner:
    """Runs tasks in the thread that made it, one at a time. Coroutines run on an event loop of its own."""

    def __init__(self, functions: Functions, device: int) -> None:
        self._functions = functions
        self._functions_of: dict[int, tuple[TaskFunction, SaveFunction | None]] = {}
        self._device = device
        self._pack = wire.ValuePacker().pack
        self._loop: asyncio.Runner | None = None
        self._forks = forks.count
        self._current = LOCAL.current

    def run(self, item: bytes, channel: int) -> tuple[bytes, bytes]:
        """Run a list item of a channel, and return its outcome and the bytes that the outcome carries. Never raises."""
        try:
            return self._run(item, channel)
        except wire.Undecodable as error:
            return undecodable(error, self._device)
        except BaseException as error:
            # A slot must survive whatever a user's classes and functions do to MutiTask's own.
            return failed("run", error, self._device)
        finally:
            if SPEAKING:
                end_run((item, channel, self._device))
            self._current.task = None

    def _run(self, item: bytes, channel: int) -> tuple[bytes, bytes]:
        self._current.task = (item, channel, self._device)
        functions = self._functions_of.get(channel)
        if functions is None:
            functions = self._functions_of[channel] = self._functions(channel)
        task_function, save_function = functions
        # Nearly all items have this form. Any call here would take a twentieth of a short task's time.
        plain = item[_FORM_AT:_BODY_AT] == list_item.INLINE
        task = wire.unpack(item[_BODY_AT:] if plain else body_of(item))
        try:
            result = self._call(task_function, task)
        except BaseException as error:
            return failed("run", error, self._device)
        if result is None:
            return failed("run", None, self._device)
        if save_function is not None:
            try:
                self._call(save_function, result)
            except BaseException as error:
                return failed("save", error, self._device)
            return SAVED, b""
        try:
            packed = self._pack([self._device, time_ns() // 1_000_000, result])
        except Unpackable as error:
            return failed("result", error, self._device)
        return DONE, (item[:_BODY_AT] if plain else list_item.result_header(item)) + packed

    def _call(self, function: Callable[[Any], Any], value: Any) -> Any:
        try:
            returned = function(value)
            # Look at the returned value, not at the function: a lambda or a wrapper can return a coroutine too.
            if type(returned) is CoroutineType:
                return self.run_coroutine(returned)
            return returned
        finally:
            if forks.count != self._forks:
                forks.end_copy(sys.exc_info()[1])

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the event loop, and return what it returns."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.Runner()
        return self._loop.run(coroutine)

    def close(self) -> None:
        """Close the event loop, if there is one."""
        if self._loop is not None:
            self._loop.close()


def failed(
    stage: str, error: BaseException | None, device: int, hidden: str = __file__
) -> tuple[bytes, bytes]:
    """Return the outcome of a run that failed; the error says whether it asked for a retry or gave up.

    `hidden` is the file whose frames the traceback leaves out.
    """
    packed = reason(stage, error, device, hidden, lines=last_lines() if SPEAKING else ())
    if isinstance(error, GiveUp):
        return FAILED, failure(packed, GIVE_UP)
    if isinstance(error, Retry):
        return FAILED, failure(packed, RETRY, None if error.after is None else round(error.after * 1000))
    return FAILED, failure(packed, names="" if error is None else class_names(error))


def undecodable(error: BaseException, device: int, hidden: str = __file__) -> tuple[bytes, bytes]:
    """Return the outcome of a task whose payload cannot be unpacked."""
    return UNDECODABLE, reason("decode", error, device, hidden)


def body_of(item: bytes) -> bytes:
    """Return the body of an item. Raises `Undecodable`."""
    if list_item.is_apart(item):
        raise MissingBody(
            "its body is missing in Redis: it was stored apart from the task and is gone; give the task a new body "
            "(edit), or delete it"
        )
    return list_item.body(item)


class MissingBody(wire.Undecodable):
    """The body of a task was stored apart and is no longer there."""


class ProcessDied(Exception):
    """A child process ended while it ran a task."""


class TaskCancelled(Exception):
    """A person cancelled a running task."""


def time_limit_of(item: bytes, default: float | None) -> float | None:
    """Return the limit of one run of a task, in seconds: its own, or else the agent's. None for no limit."""
    try:
        own = list_item.options_of(item).timeout
    except wire.Undecodable:
        return default
    return default if own is None else own


def timed_out(item: bytes, limit: float, device: int, lines: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Return the outcome of a run that exceeded its time limit: a failure like others. `lines` are its last ones."""
    whose = "--timeout" if time_limit_of(item, None) is None else "the task's own timeout"
    error = TimeoutError(f"it ran longer than the limit of {limit:g} s ({whose})")
    return FAILED, failure(reason("timeout", error, device, lines=lines), names=class_names(error))


def cancelled(who: str, device: int, lines: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Return the outcome of a run that a person cancelled: a failure that is not retried. `lines` are its last ones."""
    error = TaskCancelled(f"{who} cancelled it")
    return FAILED, failure(reason("cancelled", error, device, lines=lines), GIVE_UP)


def child_died(how: str, device: int, lines: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Return the outcome of a run whose process died: a crash, which uses up no retry (law 9).

    `lines` are the last ones that it printed.
    """
    error = ProcessDied(f"its process died three times while it ran, the last time with {how}")
    return CRASHED, reason("crashed", error, device, lines=lines)
