"""A list of named facts in one or more columns."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.header import FAINT

_MIN_COLUMN_WIDTH = 36
"""The smallest width of a column, in cells. Below it there is one column only."""

Fact = tuple[str, object, str]
"""A name, its value, and a style of Textual's `Content`; '' for the default style."""


class Facts(Static):
    """Show a name and a value for each fact, in several columns if the width allows it."""

    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", markup=False, id=id)
        self._lines: list[Content] = []
        self._full_width = 0
        self._columns = 1
        self._whole: int | None = None
        """The place of the fact that is never cut."""

    def show(
        self,
        facts: Iterable[Fact],
        limit: int = 2000,
        *,
        full_width: int = 0,
        columns: int = 1,
        whole: str = "",
    ) -> None:
        """Show these facts, column by column.

        `limit` is the most characters of a value. The first `full_width` facts take a whole line each; the
        others share `columns` columns. The fact named `whole` is never cut: if it does not fit into a column, it
        takes whole lines below the columns.
        """
        facts = list(facts)
        self._full_width, self._columns = full_width, columns
        self._whole = next((i for i, fact in enumerate(facts) if whole and fact[0] == whole), None)
        self._lines = [
            Content.assemble((f"{name:<14}", FAINT), (safe_str(value, limit), style))
            for name, value, style in facts
        ]
        self._draw()

    def on_resize(self) -> None:
        """Arrange the columns for the new width."""
        if self._columns > 1:
            self._draw()

    def _draw(self) -> None:
        head, rest = self._lines[: self._full_width], self._lines[self._full_width :]
        if len(head) > 1:  # A single fact may wrap; several facts are cut to one line each.
            head = [_cut(line, self.content_size.width) for line in head]
        cell = self.content_size.width // self._columns
        tail: list[Content] = []
        if self._columns > 1 and cell >= _MIN_COLUMN_WIDTH:
            if self._whole is not None and self._lines[self._whole].cell_length > cell - 2:
                tail = [rest.pop(self._whole - self._full_width)]
            rows = -(-len(rest) // self._columns)
            rest = [Content.assemble(*(_cut(line, cell) for line in rest[row::rows])) for row in range(rows)]
        self.update(Content("\n").join([*head, *rest, *tail]))


def _cut(line: Content, width: int) -> Content:
    """Return the line in exactly `width` cells, with a gap at its end."""
    kept = line.truncate(width - 2, ellipsis=True) if line.cell_length > width - 2 else line
    return Content.assemble(kept, " " * (width - kept.cell_length))
