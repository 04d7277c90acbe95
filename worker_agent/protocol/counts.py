"""Which numbers a caller may pass."""

from __future__ import annotations

from typing import TypeGuard

MAX_COUNT = 2**53
"""Redis's scripts count exactly up to here. hiredis 3.5 crashes on a number that Python refuses to print."""


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether it is a whole number from `least` up that Redis can count with."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < MAX_COUNT
