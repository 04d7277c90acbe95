"""The list of failed tasks and the list of groups of failed tasks."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len

from mutitask_tui.dashboard.formats import clock, fit, fit_end, short_count
from mutitask_tui.dashboard.model.selection import Fail
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import FailedTask, FailGroup

GroupKey = tuple[int, str, str, str]
"""The channel, error type, stage and code location of a group."""


class FailList(CellGrid[FailedTask]):
    """Show each failed task in one line: time, number, device, error and payload."""

    MAX_CELL_WIDTH: ClassVar[int] = 10_000

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Use one column of one-line cells."""
        return 1, 1, 0

    def key_of(self, item: FailedTask) -> Fail:
        """Return the channel and the id of the task."""
        return item.channel, item.id

    def edge_style(self, item: FailedTask) -> str:
        """Return `bad` for crashes and items that MutiTask did not write, `warn` for other errors."""
        return "bad" if item.stage in ("crashed", "foreign", "decode") else "warn"

    def cell_line(self, item: FailedTask, line: int, width: int) -> list[Piece]:
        """Return the line of a failed task."""
        device = "" if item.device is None else f"Device{item.device}"
        time = f" {clock(item.failed_ms)} "
        number = f"{f'#{item.number}':<7} "
        head = f"{safe_str(item.error_type or item.stage, 30)} "
        error = safe_str(item.error, 120)
        payload = safe_str(item.task, 400)
        used = len(time) + len(number) + max(11, len(device) + 1) + cell_len(head) + cell_len(error) + 2
        room = width - used
        payload = fit_end(payload, room) if room > 0 else ""
        return [
            (time, "faint"), (number, "text"), (f"{device:<10} ", "calm"), (head, "bad"), (error, "text"),
            (f"  {payload}", "faint"),
        ]  # fmt: skip


class GroupList(CellGrid[FailGroup]):
    """Show each group in one line: count, error, code location, channel and time of the newest failure."""

    MAX_CELL_WIDTH: ClassVar[int] = 10_000

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Use one column of one-line cells."""
        return 1, 1, 0

    def key_of(self, item: FailGroup) -> GroupKey:
        """Return the values that all tasks of the group share."""
        return item.channel, item.error_type, item.stage, item.location

    def edge_style(self, item: FailGroup) -> str:
        """Return `bad` for crashes and items that MutiTask did not write, `warn` for other errors."""
        return "bad" if item.stage in ("crashed", "foreign", "decode") else "warn"

    def cell_line(self, item: FailGroup, line: int, width: int) -> list[Piece]:
        """Return the line of a group."""
        count = f"{short_count(item.count):>7} "
        tail = f" TaskChannel{item.channel}  newest {clock(item.newest_ms)} "
        head = f"{safe_str(item.error_type or item.stage, 30)} "
        room = width - len(count) - len(tail)
        where = fit(safe_str(item.location, 200), room - len(head)) if room > len(head) else ""
        return [(count, "title"), (fit(head, min(room, len(head))), "bad"), (where, "text"), (tail, "faint")]
