"""What a device runs: claims tasks, runs one function on each, saves the results. Light: no Textual."""

from __future__ import annotations

from worker_agent.api import Client
from worker_agent.execution.current_task import CurrentTask, current_task

__all__ = ["Client", "CurrentTask", "current_task"]
