"""Check the numbers that a caller passes."""

from __future__ import annotations

from typing import TypeGuard

MAX_COUNT = 2**53
"""Redis's scripts count exactly up to this number. hiredis 3.5 crashes on a number that Python refuses to print."""


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Return whether `value` is a whole number of at least `least` with which Redis can count."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < MAX_COUNT
