"""The backend of a dashboard: reads snapshots from Redis and carries out commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mutitask_tui.server.commands.batches import run_many
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import Command, CommandError, Outcome, find
from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import (
    FailedDetail,
    FailedTask,
    FailGroup,
    ResultView,
    RunningDetail,
    Sample,
    Snapshot,
    Wait,
    WaitingTask,
)
from worker_agent.protocol.connection.address import shown_url
from worker_agent.protocol.task_line import TaskLine


def worker_line(job: str, address: str, *options: str) -> str:
    """Return the shell command line that starts an agent."""
    return shlex.join(["worker-agent", job, "--redis", address, *options, "--device", "auto"])


class RedisBackend:
    """Connects a dashboard to a namespace, in the server's process or in another one.

    `source` is the author of its commands in the event log. `wait` returns why the server's own calls wait, if they do.
    """

    def __init__(
        self, url: str, name: str, *, source: str = "", owns_server: bool = False, read_only: bool = False,
        join_line: str = "", join_note: str = "", wait: Callable[[], Wait | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._reader = Reader(url, name)
        self._inspector = Inspector(url, name)
        self._commander = Commander(url, name, source)
        self._owns_server = owns_server
        self._read_only = read_only
        self._wait = wait
        self.join_note = join_note
        """What another machine needs before its agents can connect, or ''."""
        self._join_line = join_line or worker_line("JOB", shown_url(url), "--name", name)

    @property
    def read_only(self) -> bool:
        """Whether commands that change something are refused."""
        return self._read_only

    @property
    def owns_server(self) -> bool:
        """Whether the server runs in this process."""
        return self._owns_server

    def snapshot(self) -> Snapshot:
        """Return the namespace as it is now. Takes one call to Redis."""
        return replace(self._reader.snapshot(), wait=self._wait())

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry out a command. Raises `CommandError`."""
        self._refuse_if_read_only(command)
        return self._commander.run(command, values)

    def run_many(self, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
        """Carry out one command on many devices or failed tasks. Raises `CommandError`."""
        self._refuse_if_read_only(command)
        return run_many(self._commander, command, targets)

    def export_failed(self, targets: Sequence[tuple[int, str]]) -> Outcome:
        """Write these failed tasks to a file as JSON lines."""
        self._refuse_if_read_only(find("export_fail_tasks"))
        return self._commander.export_selected(targets)

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Return failed tasks, newest first."""
        return self._inspector.failed_tasks(channel, offset, limit)

    def failed_pages(self, channel: int | None) -> Iterator[tuple[FailedTask, ...]]:
        """Yield all failed tasks, newest first, page by page."""
        return self._inspector.failed_pages(channel)

    def failed_by_id(self, fails: Sequence[tuple[int, str, int]]) -> tuple[FailedTask, ...]:
        """Return those of these failed tasks (channel, id, time in ms) that are still there, newest first."""
        return self._inspector.failed_by_id(fails)

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """Return one failed task in full, or None if it is no longer there."""
        return self._inspector.failed_task(channel, id_)

    def fail_groups(self, channel: int | None) -> tuple[FailGroup, ...]:
        """Return failed tasks grouped by error, the largest group first."""
        return self._inspector.fail_groups(channel)

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """Return the next waiting tasks of a channel."""
        return self._inspector.waiting_tasks(channel, limit)

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """Return the newest results that wait in a channel."""
        return self._inspector.last_results(channel, limit)

    def device_log(self, device: int) -> tuple[str, ...]:
        """Return the last log lines of the device's agent."""
        return self._inspector.device_log(device)

    def task_lines(self, device: int) -> tuple[TaskLine, ...]:
        """Return the last lines of the device's tasks."""
        return self._inspector.task_lines(device)

    def running_task(self, actor: str, channel: int, id_: str) -> RunningDetail | None:
        """Return the payload of a task that an agent has claimed, or None if it has not."""
        return self._inspector.running_task(actor, channel, id_)

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """Return each channel's samples of the last hour."""
        return self._inspector.history()

    def join_line(self) -> str:
        """Return the line that starts an agent on another machine, without the password."""
        return self._join_line

    def _refuse_if_read_only(self, command: Command) -> None:
        if self._read_only and not command.name.startswith("detect"):
            raise CommandError(f"this dashboard is read-only: {command.name} is refused")
