"""A value as text for people, whatever it is."""

from __future__ import annotations

from typing import Any


def in_words(value: Any, characters: int) -> str:
    """The text itself, or the value's `repr`; cut. A value that is nested too deeply to be shown says so."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (RecursionError, ValueError, MemoryError) as error:
        text = f"(a {type(value).__name__} that cannot be shown: {type(error).__name__})"
    return text[:characters]
