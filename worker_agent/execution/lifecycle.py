"""Calls the job's setup and teardown functions, each once in a process that runs tasks."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from pathlib import Path
from typing import Any

from worker_agent.console.log import LOG
from worker_agent.job import error_location, how_to_fix
from worker_agent.job_checks import accepts
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.reasons import in_one_line
from worker_agent.settings import LifecycleFunction, LifecycleFunctions

TEARDOWN_S = 30.0
"""How long the teardown functions of a process may take."""
RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine until it ends, such as `asyncio.run`."""


class Lifecycle:
    """The setups and teardowns of one process. A function that several channels share is called once.

    Setups are called in the order of the channels, teardowns in the reverse order. Threads use `enter` and `leave`. An
    event loop uses `enter_async` and `leave_async`, which call plain functions on the loop too: a client that they make
    belongs to it.
    """

    def __init__(self, functions: LifecycleFunctions, device: int) -> None:
        self._functions = functions
        self._device = device
        self._entered: set[int] = set()
        self._called: list[LifecycleFunction] = []
        self._teardowns: list[LifecycleFunction] = []
        self._lock = threading.Lock()

    def enter(self, channels: Collection[int], run: RunCoroutine | None = None) -> None:
        """Call the setups of these channels that have not been called. `run` runs those that are async.

        Raises `JobError` that names the function and what it raised.
        """
        if self._entered.issuperset(channels):
            return
        with self._lock:
            for setup in self._due(channels):
                with _named("setup", setup):
                    returned = self._call(setup)
                    if inspect.iscoroutine(returned):
                        (run or _run())(returned)

    def enter_in_thread(self, channels: Collection[int], until: threading.Event) -> bool:
        """Do the same in a thread of its own. Return False, and leave it alone, once `until` is set."""
        if not any(setup for channel in channels for setup in self._functions(channel)):
            return True
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                self.enter(channels)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter, name="setup", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if until.is_set():
                return False
        if errors:
            raise errors[0]
        return True

    def leave_in_thread(self) -> None:
        """Call the teardowns in a thread of its own, and wait for it up to `TEARDOWN_S`."""
        if not self._teardowns:
            return
        thread = threading.Thread(target=self.leave, name="teardown", daemon=True)
        thread.start()
        thread.join(TEARDOWN_S)
        if thread.is_alive():
            LOG.warning("teardown takes longer than %g s: the agent ends without it", TEARDOWN_S)

    async def enter_async(self, channels: Collection[int]) -> None:
        """Do the same on the running event loop. Two coroutines never set up the same channel at once."""
        while not self._entered.issuperset(channels):
            if not self._lock.acquire(blocking=False):
                await _pause()
                continue
            try:
                for setup in self._due(channels):
                    with _named("setup", setup):
                        returned = self._call(setup)
                        if inspect.isawaitable(returned):
                            await returned
            finally:
                self._lock.release()

    def leave(self, run: RunCoroutine | None = None) -> None:
        """Call the teardowns of the channels that were set up. What they raise is logged."""
        while self._teardowns:
            teardown = self._teardowns.pop()
            with _logged(teardown):
                returned = self._call(teardown)
                if inspect.iscoroutine(returned):
                    (run or _run())(returned)

    async def leave_async(self) -> None:
        """Do the same on the running event loop."""
        while self._teardowns:
            teardown = self._teardowns.pop()
            with _logged(teardown):
                returned = self._call(teardown)
                if inspect.isawaitable(returned):
                    await returned

    def _due(self, channels: Collection[int]) -> Iterator[LifecycleFunction]:
        """Yield each setup that is due. A channel is entered once its setup has returned."""
        for channel in channels:
            if channel in self._entered:
                continue
            setup, teardown = self._functions(channel)
            if setup is not None and setup not in self._called:
                yield setup
                self._called.append(setup)
            if teardown is not None and teardown not in self._teardowns:
                self._teardowns.append(teardown)
            self._entered.add(channel)

    def _call(self, function: LifecycleFunction) -> Any:
        return function() if accepts(function, 0) else function(self._device)


def _run() -> RunCoroutine:
    import asyncio

    return asyncio.run


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.01)


def name_of(function: LifecycleFunction) -> str:
    """Return a function's name for people."""
    return str(getattr(function, "__name__", type(function).__name__))


@contextlib.contextmanager
def _named(role: str, function: LifecycleFunction) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        module = sys.modules.get(getattr(function, "__module__", ""))
        file = Path(getattr(module, "__file__", None) or "the job")
        raise JobError(
            f"{file.name}: {role} `{name_of(function)}` failed{error_location(error, file)}: {how_to_fix(error)}"
        ) from error


@contextlib.contextmanager
def _logged(function: LifecycleFunction) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        LOG.error("teardown `%s` failed (%s)", name_of(function), in_one_line(error))
