"""The one thing a dashboard holds on to: where snapshots come from and commands go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mutitask_tui.server.commands.registry import Command, Outcome
from mutitask_tui.server.snapshot import (
    FailedDetail,
    FailedTask,
    FailGroup,
    ResultView,
    Sample,
    Snapshot,
    WaitingTask,
)


class Backend(Protocol):
    """What `server/` offers to a dashboard. All methods block, for a few seconds at most: call them from a
    thread worker.

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

    def run_many(self, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
        """Carry one command out on many devices or failed tasks, in few calls; one sentence for them all.

        Each target is the values of one call. What is no longer there is counted in the text, not raised;
        `data` holds `asked` and `done` as numbers.
        """

    def export_failed(self, targets: Sequence[tuple[int, str]]) -> Outcome:
        """Write these failed tasks (channel, id) to a file as JSON lines; the text names it."""

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Failed tasks, newest first; `channel` None means all channels."""

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """One failed task in full; None if it is no longer there."""

    def fail_groups(self, channel: int | None) -> tuple[FailGroup, ...]:
        """Failed tasks grouped by error, the largest group first; reads at most the newest 10,000."""

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """The next waiting tasks of a channel, the first to be claimed first."""

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """The newest results that wait in a channel, newest first."""

    def device_log(self, device: int) -> tuple[str, ...]:
        """The tail of what the device's agent logged, oldest first; at most 100 lines, untrusted."""

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """For each channel the samples of the last hour, oldest first."""

    @property
    def join_note(self) -> str:
        """What another machine needs before it can join, or ''."""

    def join_line(self) -> str:
        """The line to type on another machine, without the password."""
