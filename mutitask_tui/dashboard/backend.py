"""The interface between a dashboard and a namespace: it reads snapshots and sends commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from mutitask_tui.server.commands.registry import Command, Outcome
from mutitask_tui.server.snapshot import (
    FailedDetail,
    FailedTask,
    ResultView,
    RunningDetail,
    Sample,
    Snapshot,
    WaitingTask,
)
from worker_agent.protocol.task_line import TaskLine


class Backend(Protocol):
    """What the server's package offers to a dashboard.

    Every method blocks for up to a few seconds: call them from a thread worker. Each raises `RedisUnavailable` if
    Redis does not answer and `RedisRefused` if it refuses. `run` also raises `CommandError`.
    """

    @property
    def read_only(self) -> bool:
        """Whether commands are refused."""

    @property
    def owns_server(self) -> bool:
        """Whether the server runs in this process. If so, `detach` leaves it running headless."""

    def snapshot(self) -> Snapshot:
        """Return the present state of the namespace, in one call to Redis."""

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Run a command."""

    def run_many(self, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
        """Run one command on many devices or failed tasks in few calls, with one outcome for all.

        Each target holds the arguments of one call. The text counts the targets that no longer exist; they raise
        no error. `data` holds the numbers `asked` and `done`.
        """

    def export_failed(self, targets: Sequence[tuple[int, str]]) -> Outcome:
        """Write failed tasks (channel, id) to a file as JSON lines. The text names the file."""

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Return failed tasks, newest first, of one channel or of all (None)."""

    def failed_pages(self, channel: int | None) -> Iterator[tuple[FailedTask, ...]]:
        """Yield all failed tasks, newest first, page by page. Each page is read when it is asked for."""

    def failed_by_id(self, fails: Sequence[tuple[int, str, int]]) -> tuple[FailedTask, ...]:
        """Return those of these failed tasks (channel, id, time in ms) that are still there, newest first."""

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """Return one failed task in full; None if it no longer exists."""

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """Return the next waiting tasks of a channel in the order in which they will be claimed."""

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """Return the newest results that wait in a channel, newest first."""

    def device_log(self, device: int) -> tuple[str, ...]:
        """Return the last lines that the device's agent logged, oldest first: at most 100. They are untrusted."""

    def task_lines(self, device: int) -> tuple[TaskLine, ...]:
        """Return the last lines that the device's tasks printed and logged, oldest first: at most 500. Untrusted."""

    def running_task(self, actor: str, channel: int, id_: str) -> RunningDetail | None:
        """Return the payload of a task that this actor runs; None if it does not."""

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """Return the samples of the last hour for each channel, oldest first."""

    @property
    def join_note(self) -> str:
        """What another machine needs before it can join; '' if nothing."""

    def join_line(self) -> str:
        """Return the command line for another machine, without the password."""
