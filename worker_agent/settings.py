"""The settings that an agent starts with."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker_agent.job_version import JobVersion
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.served_channels import Served

TaskFunction = Callable[[Any], Any]
"""Solves one task. Takes the task, and returns its result, or None if the task failed."""
SaveFunction = Callable[[Any], Any]
"""Saves one result."""
Functions = Callable[[int], tuple[TaskFunction, SaveFunction | None]]
"""Returns the functions of a channel. Raises `JobError` if the job has none for it."""
LifecycleFunction = Callable[..., Any]
"""Sets up or tears down a process that runs tasks. Plain or async; takes nothing, or the device's number."""
LifecycleFunctions = Callable[[int], tuple[LifecycleFunction | None, LifecycleFunction | None]]
"""Returns the setup and the teardown function of a channel."""
Kind = Literal["thread", "process", "asyncio"]
"""How an agent runs tasks: in threads, in child processes, or as coroutines of one event loop."""
MOST_AT_ONCE = {"thread": 1_000, "process": 1_000, "asyncio": 10_000}
"""The highest concurrency of each kind."""


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a function is an `async def`: wrapped, partial, or the call of an object too."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - not whether it can be called
    )


def no_lifecycle(_channel: int) -> tuple[None, None]:
    """Return the lifecycle functions of a job that has none."""
    return None, None


StartMethod = Literal["forkserver", "spawn"]
START_METHODS = ("forkserver", "spawn", "fork")
"""What people may ask for. `fork` is the same as `forkserver`: an agent has threads, so it must not fork itself."""


def start_method_of(given: str | None) -> StartMethod:
    """Return the start method to use, by default the fork server where the system has one. Raises `JobError`."""
    is_available = hasattr(os, "pidfd_open") and Path("/proc/self/fd").is_dir()
    if given in ("forkserver", "fork") and not is_available:
        raise JobError(f"start method {given} needs Linux: use spawn")
    return "spawn" if given == "spawn" or not is_available else "forkserver"


def check_child_options(kind: str | None, processes: int | None, start_method: str | None) -> None:
    """Raise `JobError` if options for child processes are given, and this kind has none."""
    if processes not in (None, 1):
        if kind != "asyncio":
            raise JobError("--processes needs --kind asyncio")
    elif start_method is not None and kind != "process":
        raise JobError("--start-method needs --kind process, or --processes: threads start no processes")


@dataclass(frozen=True, slots=True)
class Settings:
    """Which device serves which channels of which namespace, and how it runs tasks.

    - `address` returns the Redis URL. It is called again before each attempt to register.
    - `device` is the device's number. None takes the first free device.
    - `served` are the channels that the agent serves until people assign others to its device.
    - `weights` are the channels' shares of the claims, by number. `strict` serves them in the order of
      `served` instead.
    - `functions` returns the functions of a channel. In process mode only the child processes use functions.
    - `lifecycle` returns the setup and the teardown function of a channel.
    - `concurrency` is how many tasks run at once.
    - `processes` is over how many child processes `kind="asyncio"` spreads its tasks. 1 runs them in this process.
    - `timeout` limits one run, in seconds. None sets no limit.
    - `drain_timeout` limits how long a stopping agent waits for its running tasks, in seconds. None sets no limit.
    - `start_method` is how child processes start: as copies of a fork server that has loaded the job, or as new
      programs.
    - `max_tasks_per_child` is after how many tasks a child process is replaced. None never replaces it.
    - `capture` says whether the lines that tasks print and log are sent to the device's screen.
    - `job` is the path of the job file, or '' in a user's own program.
    - `job_version` is the version of the job file, or of the program's file, that this process has loaded.
    - `reload` restarts the agent when the job file or a module beside it changes.
    - `function_names` are the import names of a program's functions for child processes, see `execution/child.py`: of
      the task function, the save function, setup and teardown.
    """

    address: Callable[[], str]
    name: str
    device: int | None
    served: Served
    concurrency: int
    functions: Functions
    kind: Kind = "thread"
    processes: int = 1
    start_method: StartMethod = "spawn"
    timeout: float | None = None
    drain_timeout: float | None = None
    max_tasks_per_child: int | None = None
    job: str = ""
    job_version: JobVersion | None = None
    function_names: tuple[str, ...] = ("", "", "", "")
    weights: tuple[float, ...] = ()
    strict: bool = False
    lifecycle: LifecycleFunctions = no_lifecycle
    reload: bool = False
    capture: bool = True

    @property
    def in_children(self) -> bool:
        """Whether only child processes load the job and run tasks."""
        return self.kind == "process" or self.processes > 1
