"""What a device runs: claims tasks, runs one function on each, saves the results. Light: no Textual."""

from __future__ import annotations

from worker_agent.client import Client
from worker_agent.task import CurrentTask, current_task

__all__ = ["Client", "CurrentTask", "current_task"]
