"""Makes untrusted text safe for widgets: markup is not interpreted, and control characters are removed."""

from __future__ import annotations

from rich.text import Text
from textual.content import Content

from worker_agent.protocol.printable import printable


def safe_str(value: object, limit: int = 200, *, lines: bool = False) -> str:
    """Return `value` as printable text of at most `limit` characters. Newlines become `⏎` unless `lines`."""
    return printable(value, limit, lines=lines)


def safe_text(value: object, limit: int = 200, *, lines: bool = False, style: str = "") -> Content:
    """Return `safe_str` as Textual's `Content`, whose markup is not interpreted."""
    return Content.styled(safe_str(value, limit, lines=lines), style)


def safe_rich(value: object, limit: int = 200, *, lines: bool = False) -> Text:
    """Return `safe_str` as Rich's `Text`."""
    return Text(safe_str(value, limit, lines=lines))
