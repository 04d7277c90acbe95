"""The agent of a device: claims tasks, runs a function on each, and saves the results. It does not need Textual."""

from __future__ import annotations

from worker_agent.api import Client
from worker_agent.execution.current_task import CurrentTask, current_task
from worker_agent.protocol.retry_policy import GiveUp, Retry
from worker_agent.protocol.task import Task

__all__ = ["Client", "CurrentTask", "GiveUp", "Retry", "Task", "current_task"]
