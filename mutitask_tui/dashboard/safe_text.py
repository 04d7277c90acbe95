"""Text from strangers for widgets: no markup in it is read, and what a terminal should not see is dropped."""

from __future__ import annotations

from rich.text import Text
from textual.content import Content

from worker_agent.protocol.printable import printable


def safe_str(value: object, limit: int = 200, *, lines: bool = False) -> str:
    """`value` as printable text of at most `limit` characters; newlines become `⏎` unless `lines`."""
    return printable(value, limit, lines=lines)


def safe_text(value: object, limit: int = 200, *, lines: bool = False, style: str = "") -> Content:
    """`safe_str` for Textual's widgets: no markup in it is read."""
    return Content.styled(safe_str(value, limit, lines=lines), style)


def safe_rich(value: object, limit: int = 200, *, lines: bool = False) -> Text:
    """`safe_str` for the sinks that take Rich's Text."""
    return Text(safe_str(value, limit, lines=lines))
