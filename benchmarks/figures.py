"""Medians, percentiles and ratios of summary rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.systems import OTHER_SETTINGS, PEERS

Row = dict[str, Any]
"""A measurement: its conditions and its figures."""
PURE_PYTHON = {peer.label for peer in PEERS} - {"ArdiQ"}
"""The labels of the peers that are written in Python only."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The median, the lowest and the highest of some values."""

    median: float
    low: float
    high: float

    def text(self) -> str:
        """Return the median, with the lowest and the highest value if they differ."""
        spread = "" if self.low == self.high else f" ({self.low:,.0f}–{self.high:,.0f})"
        return f"{self.median:,.0f}{spread}"


def figure(rows: Iterable[Row], field: str, **where: object) -> Figure | None:
    """Return the figure of a field over the rows that equal `where`, or None if there are none."""
    values = [row[field] for row in rows if field in row and all(row.get(k) == v for k, v in where.items())]
    return Figure(statistics.median(values), min(values), max(values)) if values else None


def median_of(rows: Iterable[Row], field: str, **where: object) -> float:
    """Return the median of a field over the rows that equal `where`, or 0 if there are none."""
    found = figure(rows, field, **where)
    return found.median if found else 0.0


def measured_peers(rows: Iterable[Row]) -> list[str]:
    """Return the labels of the peers that have rows."""
    seen = {row.get("system") for row in rows}
    return [peer.label for peer in (*PEERS, *OTHER_SETTINGS) if peer.label in seen]


def fastest(rows: list[Row], field: str, names: Iterable[str], **where: object) -> tuple[str, float]:
    """Return the fastest of the systems in `names`, and its rate."""
    rates = [(median_of(rows, field, system=name, **where), name) for name in names]
    rate, name = max(rates, default=(0.0, ""))
    return name, rate


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def ratio(one: float, other: float) -> float:
    """Return `one / other`, or 0 if the other was not measured."""
    return one / other if other else 0.0
