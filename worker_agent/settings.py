"""What an agent is told when it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from worker_agent.execution.runner import SaveFunction, TaskFunction


@dataclass(frozen=True, slots=True)
class Settings:
    """Which device serves which channel of which namespace, and how.

    `address()` gives the URL, asked anew before each try; `device` None takes the first free one. `timeout` is in
    seconds for one run; `drain_timeout` in seconds for all that runs when the agent is told to stop, None without a
    limit. In process mode `functions` are the names by which a child finds them, see `child.py`.
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
