"""A value as text for people, whatever it is."""

from __future__ import annotations

from typing import Any


def short_text(value: Any, characters: int) -> str:
    """The text itself, or the value's `repr`; cut. A value that is nested too deeply to be shown says so."""
    return (value if isinstance(value, str) else shown(value))[:characters]


def shown(value: Any) -> str:
    """The value's `repr`; what is nested too deeply, or a number that is too long to be printed, says so."""
    try:
        return repr(value)
    except (RecursionError, ValueError, MemoryError) as error:
        return f"(a {type(value).__name__} that cannot be shown: {type(error).__name__})"


def plural(number: int, noun: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
