"""A column of named facts."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.header import FAINT

_COLUMN = 36
"""No column of facts is narrower."""

Fact = tuple[str, object, str]
"""A name, its value, and a style of Textual's content, or ''."""


class Facts(Static):
    """Names in one column, values in the next; pairs of them side by side where there is room."""

    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", markup=False, id=id)
        self._lines: list[Content] = []
        self._lead = 0
        self._columns = 1

    def show(self, facts: Iterable[Fact], limit: int = 2000, *, lead: int = 0, columns: int = 1) -> None:
        """Show these facts, down before across; the first `lead` of them have a line for themselves."""
        self._lead, self._columns = lead, columns
        self._lines = [
            Content.assemble((f"{name:<14}", FAINT), (safe_str(value, limit), style))
            for name, value, style in facts
        ]
        self._draw()

    def on_resize(self) -> None:
        """More room takes more columns."""
        if self._columns > 1:
            self._draw()

    def _draw(self) -> None:
        lead, rest = self._lines[: self._lead], self._lines[self._lead :]
        if len(lead) > 1:  # One may take several lines; of several each has one.
            lead = [_cut(line, self.content_size.width) for line in lead]
        cell = self.content_size.width // self._columns
        if self._columns > 1 and cell >= _COLUMN:
            rows = -(-len(rest) // self._columns)
            rest = [Content.assemble(*(_cut(line, cell) for line in rest[row::rows])) for row in range(rows)]
        self.update(Content("\n").join([*lead, *rest]))


def _cut(line: Content, width: int) -> Content:
    """The line in exactly `width` cells, with a gap at its end."""
    kept = line.truncate(width - 2, ellipsis=True) if line.cell_length > width - 2 else line
    return Content.assemble(kept, " " * (width - kept.cell_length))
