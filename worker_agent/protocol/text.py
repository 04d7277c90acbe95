"""Turn values into text for people."""

from __future__ import annotations

from typing import Any


def short_text(value: Any, characters: int) -> str:
    """Return the text itself, or the `repr` of another value, cut to `characters`."""
    return (value if isinstance(value, str) else shown(value))[:characters]


def shown(value: Any) -> str:
    """Return the value's `repr`, or a note if that fails: a value nested too deeply, a number with too many digits."""
    try:
        return repr(value)
    except (RecursionError, ValueError, MemoryError) as error:
        return f"(a {type(value).__name__} that cannot be shown: {type(error).__name__})"


def plural(number: int, noun: str) -> str:
    """Return `1 device` or `2 devices`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size: int) -> str:
    """Format a number of bytes: `812 B`, `4.1 kB`, `2.3 MB`."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
