"""The one thing a dashboard holds on to: where snapshots come from and commands go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mutitask_tui.server.commands import Command, Outcome
from mutitask_tui.server.snapshot import FailedTask, Snapshot


class Link(Protocol):
    """What `server/` offers to a dashboard. All methods block: call them from a thread worker.

    Each raises `RedisUnavailable` or `RedisRefused` where Redis is away or says no; `run` also raises
    `CommandError`.
    """

    @property
    def read_only(self) -> bool:
        """Whether commands are refused."""

    @property
    def owns_server(self) -> bool:
        """Whether the server runs in this process (`detach` then leaves it running headless)."""

    def snapshot(self) -> Snapshot:
        """The namespace now; one call to Redis."""

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry a command out."""

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Failed tasks, newest first; `channel` None means all channels."""

    def join_line(self) -> str:
        """The line to type on another machine, without the password."""
