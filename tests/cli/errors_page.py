"""Read the messages of docs/errors.md, and recognise one of them with other names and numbers."""

from __future__ import annotations

import re
from functools import cache

from tests.support.programs import ROOT

PAGE = ROOT / "docs" / "errors.md"

FILLED_IN = re.compile(
    r"^\S+\.py: |'[^']*'|`[^`]*`|\([^)]*\)|https?://\S+|\S*/\S+|\S+\.py\b|\S+(?= \(?pid \d)"
    r"|(?<=as )an? \w+|(?<=usage: ).*|\b[A-Z][a-z]+[A-Z]\w*|\d[\d,.:]*"
)
"""The parts of a message that differ: names in quotes, text in brackets, paths, numbers, types."""


@cache
def messages() -> tuple[str, ...]:
    """Return the messages in the first column of the page's tables."""
    text = PAGE.read_text(encoding="utf-8").partition("## Why a task failed")[0]
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1 \|", text, re.MULTILINE)
    return tuple(message for _, message in rows)


@cache
def _templates() -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(".*?".join(re.escape(part) for part in FILLED_IN.split(message))) for message in messages()
    )


def holds(text: str) -> bool:
    """Return whether the page contains this message."""
    return any(template.search(text) for template in _templates())
