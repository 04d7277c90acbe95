"""Medians and ratios out of the rows that the parts have kept."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.systems import FASTER, PEERS

Row = dict[str, Any]
PURE = {peer.label for peer in PEERS} - {"ArdiQ"}
"""The peers that are written in Python alone."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some values, and the lowest and highest of them."""

    middle: float
    low: float
    high: float

    def text(self) -> str:
        """With its spread, where there is one."""
        spread = "" if self.low == self.high else f" ({self.low:,.0f}–{self.high:,.0f})"
        return f"{self.middle:,.0f}{spread}"


def figure(rows: Iterable[Row], field: str, **where: object) -> Figure | None:
    """Of the rows that are like this; None where there are none."""
    values = [row[field] for row in rows if field in row and all(row.get(k) == v for k, v in where.items())]
    return Figure(statistics.median(values), min(values), max(values)) if values else None


def middle(rows: Iterable[Row], field: str, **where: object) -> float:
    """The median alone; 0 where there are no rows."""
    found = figure(rows, field, **where)
    return found.middle if found else 0.0


def systems(rows: Iterable[Row]) -> list[str]:
    """The peers that have rows."""
    seen = {row.get("system") for row in rows}
    return [peer.label for peer in (*PEERS, *FASTER) if peer.label in seen]


def best(rows: list[Row], field: str, names: Iterable[str], **where: object) -> tuple[str, float]:
    """The fastest of those, and how fast."""
    found = [(middle(rows, field, system=name, **where), name) for name in names]
    rate, name = max(found, default=(0.0, ""))
    return name, rate


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def times(one: float, other: float) -> float:
    """How many times the other; 0 where the other was not measured."""
    return one / other if other else 0.0
