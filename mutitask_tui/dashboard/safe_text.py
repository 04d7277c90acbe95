"""Makes text from strangers harmless: what it yields holds no markup, no escapes, no hidden characters."""

from __future__ import annotations

import unicodedata

from rich.text import Text
from textual.content import Content

from worker_agent.protocol.bound import json

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls, bidi and zero-width formats, lone surrogates, private use, line separators."""

_MARKS_A_CHARACTER = 2
"""More combining marks than this on one character smear over the lines around it."""


def safe_str(value: object, limit: int = 200, *, lines: bool = False) -> str:
    """`value` as printable text of at most `limit` characters; newlines become `⏎` unless `lines`."""
    text = value if isinstance(value, str) else str(value)
    cut = len(text) > limit
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = _clean(text, lines)
    return text[: limit - 1] + "…" if cut else text


def safe_text(value: object, limit: int = 200, *, lines: bool = False, style: str = "") -> Content:
    """`safe_str` for Textual's widgets: no markup in it is read."""
    return Content.styled(safe_str(value, limit, lines=lines), style)


def safe_rich(value: object, limit: int = 200, *, lines: bool = False) -> Text:
    """`safe_str` for the sinks that take Rich's Text."""
    return Text(safe_str(value, limit, lines=lines))


def safe_json(text: str) -> str:
    """JSON with the characters that a screen cannot show as JSON's own escapes: the value stays the same."""
    return "".join(
        json.dumps(c)[1:-1] if c != "\n" and (unicodedata.category(c) in _DROPPED or _is_selector(c)) else c
        for c in text
    )


def _clean(text: str, lines: bool) -> str:
    text = text.replace("\r\n", "\n").replace("\t", "    ")
    text = text if lines else text.replace("\n", "⏎")
    kept: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category[0] == "M" else 0
        if character == "\n":
            kept.append(character)
        elif category == "Cs":
            kept.append("\N{REPLACEMENT CHARACTER}")
        elif category not in _DROPPED and marks <= _MARKS_A_CHARACTER and not _is_selector(character):
            kept.append(character)
    return "".join(kept)


def _is_selector(character: str) -> bool:
    """Variation selectors: terminals disagree on how wide what they follow is."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
