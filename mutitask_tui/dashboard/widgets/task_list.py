"""The list of a device's running tasks: age, progress, payload and last line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.geometry import Size

from mutitask_tui.dashboard.formats import about, amount, fill_bar, fit, fit_end, span
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import RunningTask

_BAR_WIDTH = 10
TaskKey = tuple[int, str]
"""The channel and the id of a task."""


class TaskList(CellGrid[RunningTask]):
    """Show each running task in two lines, or in one if there are many: `Enter` opens a task."""

    MAX_CELL_WIDTH: ClassVar[int] = 10_000
    DEFAULT_CSS = """
    TaskList { height: auto; scrollbar-size-horizontal: 0; }
    """

    max_lines = 6
    """The most lines that the list takes for itself."""

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Use one column of two-line cells while all fit."""
        return 1, 2 if 2 * len(self.items) <= self.max_lines else 1, 0

    def show(self, items: Sequence[RunningTask]) -> None:
        """Show these tasks, in as many lines as they need."""
        before = len(self.items)
        super().show(items)
        if len(self.items) != before:
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines the tasks need, at most `max_lines`."""
        return min(self.max_lines, len(self.items) * self.cell_height)

    def key_of(self, item: RunningTask) -> TaskKey:
        """Return the channel and the id of the task."""
        return item.channel, item.id or item.text

    def edge_style(self, item: RunningTask) -> str:
        """Return `good`: the task runs."""
        return "good"

    def cell_line(self, item: RunningTask, line: int, width: int) -> list[Piece]:
        """Return the number, the age, the progress and the payload, then the note and the last line."""
        said = said_text(item)
        if line:
            return [(fit(f"          {said or 'has printed nothing'}", width), "text" if said else "faint")]
        head = [
            (f" {f'#{item.number}':<8}", "title"),
            (f"{span(item.seconds):>7} ", "calm"),
            *progress_pieces(item),
        ]
        room = width - sum(cell_len(text) for text, _ in head) - 1
        if self.cell_height > 1 or not said or room < 24:
            return [*head, (f" {fit_end(safe_str(item.text, 400), room)}", "text")]
        payload = fit_end(safe_str(item.text, 400), room // 2 - 1)
        return [*head, (f" {payload} ", "text"), (fit(said, room - room // 2), "faint")]


def progress_pieces(task: RunningTask) -> list[Piece]:
    """Return the progress of a task: a bar, the percentage and the time that is left. Empty if it has none."""
    if task.done is None:
        return []
    if task.share is None:
        return [(f" {amount(task.done)} done", "good")]
    full, empty = fill_bar(task.share, 1, _BAR_WIDTH)
    left = "" if task.left_s is None else f" {about(task.left_s)} left"
    return [(f" {full}", "good"), (empty, "faint"), (f" {task.share:4.0%}", "good"), (left, "faint")]


def said_text(task: RunningTask) -> str:
    """Return what a task said: its note and its last line, as safe text."""
    return safe_str("  › ".join(filter(None, (task.note, task.line))), 400)
