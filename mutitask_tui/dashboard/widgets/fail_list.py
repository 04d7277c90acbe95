"""The failed tasks and the groups of them: a line each, drawn by the line API, marked and moved through alike."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len

from mutitask_tui.dashboard.formats import clock, fit, fit_end, short_count
from mutitask_tui.dashboard.model.selection import Fail
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import FailedTask, FailGroup

GroupKey = tuple[int, str, str, str]
"""A group's channel, error type, stage and place."""


class FailList(CellGrid[FailedTask]):
    """Failed tasks: when, which, where, why."""

    MAX_CELL_WIDTH: ClassVar[int] = 10_000

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """One column."""
        return 1, 1, 0

    def key_of(self, item: FailedTask) -> Fail:
        """Channel and id."""
        return item.channel, item.id

    def edge_style(self, item: FailedTask) -> str:
        """A crash or a foreign item is worse than an error."""
        return "bad" if item.stage in ("crashed", "foreign", "decode") else "warn"

    def cell_line(self, item: FailedTask, line: int, width: int) -> list[Piece]:
        """Time, number and device in columns, then the error and the payload."""
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
    """Groups of failed tasks: how many, which error, where it was raised."""

    MAX_CELL_WIDTH: ClassVar[int] = 10_000

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """One column."""
        return 1, 1, 0

    def key_of(self, item: FailGroup) -> GroupKey:
        """What its tasks have in common."""
        return item.channel, item.error_type, item.stage, item.where

    def edge_style(self, item: FailGroup) -> str:
        """A crash or a foreign item is worse than an error."""
        return "bad" if item.stage in ("crashed", "foreign", "decode") else "warn"

    def cell_line(self, item: FailGroup, line: int, width: int) -> list[Piece]:
        """The count first, then error, place, channel and when the newest failed."""
        count = f"{short_count(item.count):>7} "
        tail = f" TaskChannel{item.channel}  newest {clock(item.newest_ms)} "
        head = f"{safe_str(item.error_type or item.stage, 30)} "
        room = width - len(count) - len(tail)
        where = fit(safe_str(item.where, 200), room - len(head)) if room > len(head) else ""
        return [(count, "title"), (fit(head, min(room, len(head))), "bad"), (where, "text"), (tail, "faint")]
