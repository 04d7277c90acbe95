"""Rates: how many tasks of a channel may start in a second, a minute or an hour."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from worker_agent.protocol.text import shown

_PERIODS_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000}
_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?/ ?(s|min|h)")
MOST_PER_S = 1_000_000
LEAST_PER_H = 0.01


class Rate(NamedTuple):
    """How many tasks may start in `period_ms`."""

    tasks: float
    period_ms: int

    def __str__(self) -> str:
        """Return the rate as people write it, such as `10/s`."""
        unit = next(
            (unit for unit, ms in _PERIODS_MS.items() if ms == self.period_ms), f"{self.period_ms} ms"
        )
        return f"{_number_text(self.tasks)}/{unit}"

    def encode(self) -> str:
        """Return the rate as the field of `Keys.desired_channels` has it: the count and the period in ms."""
        return f"{_number_text(self.tasks)} {self.period_ms}"


def parse_rate(text: object) -> Rate:
    """Parse `10/s`, `0.5/s`, `90/min` or `1000/h`. Raises `TypeError` or `ValueError` with one sentence."""
    if not isinstance(text, str):
        raise TypeError(f"a rate is text such as '10/s', not {shown(text)[:40]}")
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not {shown(text)[:40]}"
        )
    rate = Rate(float(found[1]), _PERIODS_MS[found[2]])
    per_s = rate.tasks * 1_000 / rate.period_ms
    if per_s > MOST_PER_S:
        raise ValueError(f"a rate is at most {MOST_PER_S:,}/s, not {shown(text)[:40]}")
    if per_s * 3_600 < LEAST_PER_H:
        raise ValueError(f"a rate is at least {LEAST_PER_H:g}/h, not {shown(text)[:40]}")
    return rate


def decode_rate(stored: bytes) -> Rate | None:
    """Return the rate that a field of `Keys.desired_channels` holds. None if it holds none."""
    words = stored.split(b" ")
    try:
        rate = Rate(float(words[0]), int(words[1]))
    except (ValueError, IndexError, OverflowError):
        return None
    return rate if 0 < rate.tasks < math.inf and rate.period_ms > 0 else None


def _number_text(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")
