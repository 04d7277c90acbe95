"""Check the numbers that a caller passes."""

from __future__ import annotations

import math
from typing import TypeGuard

from worker_agent.protocol.text import shown

MAX_COUNT = 2**53
"""Redis's scripts count exactly up to this number. hiredis 3.5 crashes on a number that Python refuses to print."""


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Return whether `value` is a whole number of at least `least` with which Redis can count."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < MAX_COUNT


def checked_number(label: str, value: object, least: float, most: float, unit: str = "") -> float:
    """Return a number from `least` to `most`. Raises `ValueError` with one sentence, which starts with `label`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise ValueError(
            f"{label} must be a number from {least:,g} to {most:,.0f}{unit and ' '}{unit}, not {shown(value)[:40]}"
        )
    return float(value)
