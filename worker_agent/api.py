"""`Client`: runs an agent in a user's own program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from worker_agent.protocol.served_channels import Served, numbers_text, parse_served
from worker_agent.settings import (
    MOST_AT_ONCE,
    START_METHODS,
    Kind,
    LifecycleFunction,
    is_async,
    start_method_of,
)

if TYPE_CHECKING:
    from worker_agent.job_version import JobVersion


class Client:
    """An agent for one device. Without an address it uses the embedded Valkey of this machine.

    - `concurrency` is how many tasks run at once.
    - `kind="asyncio"` runs tasks as coroutines of one event loop, and plain functions in threads beside it.
    - `kind="auto"` is `asyncio` if the task function is an `async def`, otherwise `thread`.
    - `kind="process"` runs tasks in child processes. They import the functions by name, so the functions must be at the
      top level of a module that can be imported, not of the program itself.
    - `setup` and `teardown` are called once, before the first and after the last task: plain or async, with no
      parameter or with the device's number. With `kind="process"` each child process calls them.
    - `processes` is over how many child processes `kind="asyncio"` spreads its tasks, each with its own event loop.
    - `start_method` is how child processes start: "forkserver" copies a process that has loaded the functions, "spawn"
      loads them in each process. None takes the first on Linux.
    - `timeout` limits one run, in seconds. None sets no limit.
    - `drain_timeout` limits how long a stopped agent waits for its running tasks, in seconds. None sets no limit.
    - `capture=False` leaves what tasks print and log alone. Otherwise each line gets the number of its task, goes to
      stderr, and is shown on the device's screen.

    Raises `TypeError` or `ValueError` that says what to pass instead.
    """

    def __init__(
        self,
        device: int,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        *,
        redis_url: str | None = None,
        name: str = "default",
        concurrency: int = 1,
        kind: Kind | Literal["auto"] = "auto",
        processes: int = 1,
        start_method: Literal["forkserver", "spawn", "fork"] | None = None,
        timeout: float | None = None,
        drain_timeout: float | None = None,
        setup: LifecycleFunction | None = None,
        teardown: LifecycleFunction | None = None,
        capture: bool = True,
    ) -> None:
        from worker_agent.agent.restart import remember_start
        from worker_agent.protocol.connection.address import check_name
        from worker_agent.protocol.counts import is_count
        from worker_agent.protocol.text import shown

        if not is_count(device):
            raise TypeError(f"device must be a whole number of 0 or more, not {shown(device)}")
        if concurrency < 1:
            raise ValueError("concurrency must be 1 or more")
        remember_start()
        self._device = device
        self._address = (host, port, db, password)
        self._redis_url = redis_url
        self._name = check_name(name)
        if kind not in ("auto", *MOST_AT_ONCE):
            raise ValueError(f"kind must be 'auto', 'thread', 'process' or 'asyncio', not {kind!r}")
        for function in (setup, teardown):
            if function is not None and not callable(function):
                raise TypeError(f"setup and teardown must be functions, not {shown(function)}")
        if processes != 1 and (kind != "asyncio" or not 1 <= processes <= concurrency):
            raise ValueError("processes must be 1 to the concurrency, and needs kind='asyncio' above 1")
        if start_method not in (None, *START_METHODS):
            raise ValueError(f"start_method must be 'forkserver' or 'spawn', not {start_method!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError("timeout must be above 0 seconds, or None")
        if drain_timeout is not None and not drain_timeout >= 0:
            raise ValueError("drain_timeout must be 0 seconds or more, or None")
        if not isinstance(capture, bool):
            raise TypeError(f"capture must be True or False, not {shown(capture)}")
        self._drain_timeout = drain_timeout
        self._capture = capture
        self._concurrency = concurrency
        self._kind = kind
        self._lifecycle = setup, teardown
        self._processes = processes
        self._start_method = start_method_of(start_method)
        self._timeout = timeout
        self._task_function: Callable[[Any], Any] | None = None
        self._save_function: Callable[[Any], Any] | None = None

    def initial_task_function(self, task_func: Callable[[Any], Any]) -> None:
        """Set the function that solves one task. It returns the result, or None if the task failed."""
        from worker_agent.job_checks import check_task_function

        check_task_function(task_func)
        self._task_function = task_func

    def initial_save_function(self, save_func: Callable[[Any], Any] | None) -> None:
        """Set the function that saves one result. With None, results go to the channel's result channel in Redis."""
        from worker_agent.job_checks import check_save_function

        if save_func is not None:
            check_save_function(save_func)
        self._save_function = save_func

    def start(self, channel: int | Sequence[int] | None = None) -> None:
        """Serve channels until stopped. On failure, end the process with an exit status other than 0.

        `channel` is one number or several. Without it, the agent serves all channels.

        Raises `TypeError` if no task function was set, or if child processes cannot import a function.
        """
        from worker_agent.agent.process import run_agent
        from worker_agent.protocol.connection.address import resolve
        from worker_agent.settings import Settings

        served = _served(channel)
        if self._task_function is None:
            raise TypeError("call initial_task_function(task_func=...) with your function before start()")
        pair = self._task_function, self._save_function
        names: tuple[str, ...] = ()
        kind: Kind = (
            ("asyncio" if is_async(self._task_function) else "thread") if self._kind == "auto" else self._kind
        )
        if self._concurrency > MOST_AT_ONCE[kind]:
            raise ValueError(f"concurrency must be {MOST_AT_ONCE[kind]} at most with kind={kind!r}")
        lifecycle = self._lifecycle
        if kind == "process" or self._processes > 1:
            from worker_agent.execution.child import import_name

            names = tuple(import_name(function) if function else "" for function in (*pair, *lifecycle))
        host, port, db, password = self._address
        settings = Settings(
            address=lambda: resolve(self._redis_url, self._name, host, port, db, password)[0],
            name=self._name,
            device=self._device,
            served=served,
            concurrency=self._concurrency,
            functions=lambda _channel: pair,
            kind=kind,
            processes=self._processes,
            start_method=self._start_method,
            timeout=self._timeout,
            drain_timeout=self._drain_timeout,
            function_names=names,
            lifecycle=lambda _channel: lifecycle,
            job_version=_program_version(),
            capture=self._capture,
        )
        status = run_agent(settings)
        if status:
            sys.exit(status)


def _program_version() -> JobVersion | None:
    """Return the version of the program's file, or None if it has none."""
    from worker_agent.job_version import JobVersion

    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return JobVersion(file) if isinstance(file, str) else None


def _served(channel: object) -> Served:
    from worker_agent.protocol.text import shown

    if channel is None:
        return None
    if not (text := numbers_text(channel)):
        raise TypeError(f"channel must be the number of a channel or a list of numbers, not {shown(channel)}")
    return parse_served(text)
