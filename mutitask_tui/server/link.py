"""What a dashboard holds on to: snapshots come from here and commands go here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.commander import Commander
from mutitask_tui.server.commands import Command, CommandError, Outcome
from mutitask_tui.server.reading import Reader
from mutitask_tui.server.snapshot import FailedTask, Snapshot


class RedisLink:
    """A dashboard's link to a namespace, from this process's server or from anywhere."""

    def __init__(
        self, url: str, name: str, *, who: str = "", owns_server: bool = False, read_only: bool = False,
        join_line: str = "",
    ) -> None:  # fmt: skip
        self._reader = Reader(url, name)
        self._pages = Reader(url, name)
        self._commander = Commander(url, name, who)
        self._owns_server = owns_server
        self._read_only = read_only
        place = f"redis://{self._reader.where}" if "://" not in self._reader.where else self._reader.where
        self._join_line = (
            join_line or f"worker-agent JOB --redis {place} --name {name} --device auto --channel 0"
        )

    @property
    def read_only(self) -> bool:
        """Whether commands are refused."""
        return self._read_only

    @property
    def owns_server(self) -> bool:
        """Whether the server runs in this process."""
        return self._owns_server

    def snapshot(self) -> Snapshot:
        """The namespace now; one call to Redis."""
        return self._reader.snapshot()

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry a command out. Raises `CommandError`."""
        if self._read_only and not command.name.startswith("detect"):
            raise CommandError(f"this dashboard is read-only: {command.name} is refused")
        return self._commander.run(command, values)

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Failed tasks, newest first."""
        return self._pages.failed_tasks(channel, offset, limit)

    def join_line(self) -> str:
        """The line to type on another machine, without the password."""
        return self._join_line
