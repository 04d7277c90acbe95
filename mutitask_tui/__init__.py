"""The server. It feeds generators into bounded channels and shows everything in a dashboard."""

from __future__ import annotations

from mutitask_tui.api import Server
from worker_agent.protocol.retry_policy import GiveUp, Retry
from worker_agent.protocol.task import Task

__all__ = ["GiveUp", "Retry", "Server", "Task"]
