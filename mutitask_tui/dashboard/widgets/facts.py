"""A column of named facts."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.header import FAINT

Fact = tuple[str, object, str]
"""A name, its value, and a style of Textual's content, or ''."""


class Facts(Static):
    """Names in one column, values in the next."""

    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", markup=False, id=id)

    def show(self, facts: Iterable[Fact], limit: int = 2000) -> None:
        """Show these facts."""
        lines = [
            Content.assemble((f"{name:<14}", FAINT), (safe_str(value, limit), style))
            for name, value, style in facts
        ]
        self.update(Content("\n").join(lines))
