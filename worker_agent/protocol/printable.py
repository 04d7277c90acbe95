"""Make untrusted text safe for a terminal: no escapes, no hidden characters, and a limited length."""

from __future__ import annotations

import re
import unicodedata

from worker_agent.protocol.unpatched import json

LINE = 2_000
"""The longest line that is printed or logged, in characters."""

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""The Unicode categories to drop: controls, bidi and zero-width formats, lone surrogates, private use, separators."""

_MAX_MARKS = 2
"""The most combining marks on one character. More of them would cover the lines above and below."""

_HIDDEN = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e01ef\U000f0000-\U0010ffff]"
)
"""Characters that JSON does not escape and a terminal must not get: `_DROPPED` without C0, and variation selectors."""

_SELECTORS_IN_UTF_8 = b"\xef\xb8", b"\xf3\xa0"
"""How each variation selector starts in UTF-8. Python calls them printable."""


def printable(value: object, limit: int = LINE, *, lines: bool = False) -> str:
    """Return `value` as printable text of at most `limit` characters. Newlines become `⏎` unless `lines` is true."""
    text = value if isinstance(value, str) else str(value)
    cut = len(text) > limit
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = _clean(text, lines)
    return text[: limit - 1] + "…" if cut else text


def printable_json(text: str) -> str:
    """Return JSON in which characters that a terminal must not get are escaped. The value stays the same."""
    return text if _hides_nothing(text) else _HIDDEN.sub(_escaped, text)


def _hides_nothing(json_text: str) -> bool:
    """Return whether JSON certainly has nothing to escape. That takes a tenth of the time of the search in it."""
    if json_text.isascii():
        return "\x7f" not in json_text
    if not json_text.replace("\n", "").isprintable():
        return False
    encoded = json_text.encode("utf-8")
    return not any(start in encoded for start in _SELECTORS_IN_UTF_8)


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
        elif category not in _DROPPED and marks <= _MAX_MARKS and not _is_selector(character):
            kept.append(character)
    return "".join(kept)


def _is_selector(character: str) -> bool:
    """Return whether it is a variation selector. Terminals disagree on the width of the character before it."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
