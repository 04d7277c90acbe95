"""Makes text from strangers fit for a terminal: no escapes, no hidden characters, and an end."""

from __future__ import annotations

import re
import unicodedata

from worker_agent.protocol.pristine import json

LINE = 2_000
"""The most characters of a line that is printed or logged."""

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls, bidi and zero-width formats, lone surrogates, private use, line separators."""

_MARKS_A_CHARACTER = 2
"""More combining marks than this on one character smear over the lines around it."""

_HIDDEN = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e01ef\U000f0000-\U0010ffff]"
)
"""What JSON leaves as it is and a terminal should not see: all of `_DROPPED` but C0, and variation selectors."""


def printable(value: object, limit: int = LINE, *, lines: bool = False) -> str:
    """`value` as printable text of at most `limit` characters; newlines become `⏎` unless `lines`."""
    text = value if isinstance(value, str) else str(value)
    cut = len(text) > limit
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = _clean(text, lines)
    return text[: limit - 1] + "…" if cut else text


def printable_json(text: str) -> str:
    """JSON with the characters that a terminal should not see as JSON's own escapes: the value stays the same."""
    return text if text.isascii() and "\x7f" not in text else _HIDDEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return "\\u007f" if found[0] == "\x7f" else json.dumps(found[0])[1:-1]


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
