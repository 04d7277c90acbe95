"""The settings that an agent starts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

TaskFunction = Callable[[Any], Any]
"""Solves one task. Takes the task, and returns its result, or None if the task failed."""
SaveFunction = Callable[[Any], Any]
"""Saves one result."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Which device serves which channel of which namespace, and how it runs tasks.

    - `address` returns the Redis URL. It is called again before each attempt to register.
    - `device` is the device's number. None takes the first free device.
    - `concurrency` is how many tasks run at once.
    - `timeout` limits one run, in seconds. None sets no limit.
    - `drain_timeout` limits how long a stopping agent waits for its running tasks, in seconds. None sets no limit.
    - `max_tasks_per_child` is after how many tasks a child process is replaced. None never replaces it.
    - `job` is the path of the job file, or '' in a user's own program.
    - `functions` names the task function and the save function for child processes, see `execution/child.py`.
    """

    address: Callable[[], str]
    name: str
    device: int | None
    channel: int
    concurrency: int
    task_function: TaskFunction
    save_function: SaveFunction | None
    kind: Literal["thread", "process"] = "thread"
    timeout: float | None = None
    drain_timeout: float | None = None
    max_tasks_per_child: int | None = None
    job: str = ""
    functions: tuple[str, str] = ("", "")
