"""Draws the chart of `docs/benchmarks.md` with matplotlib, in a separate virtual environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.figures import figure, measured_peers
from benchmarks.systems import CHART, install

CHART_FILE = Path(__file__).parent.parent / "docs" / "benchmarks.svg"
PAINTER = Path(__file__).with_name("painter.py")
BASE = {"persistence": "off", "delay_ms": 0.0, "results": True}


Bar = tuple[str, float, float, float]
"""A label, and the median, the lowest and the highest value."""


def draw(parts: dict[str, Any]) -> list[str]:
    """Draw the chart. Return the names of the written files: none if no part of the chart was measured."""
    panels = panels_of(parts)
    if not panels:
        return []
    if why := install(CHART):
        raise SystemExit(f"no chart: matplotlib {why}")
    subprocess.run(
        [str(CHART.python), str(PAINTER), str(CHART_FILE)], input=json.dumps(panels), text=True, check=True
    )
    return [str(CHART_FILE)]


def panels_of(parts: dict[str, Any]) -> list[tuple[str, list[Bar]]]:
    """Return the title and the bars of each panel."""
    panels = []
    if "noop" in parts:
        rows = [row for row in parts["noop"]["rows"] if row.get("tasks", 0) <= 20_000]
        names = [
            ("bare loop", "1000"),
            ("MutiTask", "adaptive"),
            ("MutiTask", "1"),
            *((s, "") for s in measured_peers(rows)),
        ]
        panels.append(
            ("No-ops worked off, results kept, tasks/s (log)", bars(rows, "drained_per_s", names, BASE))
        )
    if "feeding" in parts:
        rows = parts["feeding"]["rows"]
        names = [("bare loop", None), ("MutiTask", None), *((s, None) for s in measured_peers(rows))]
        panels.append(("Fed from a generator, tasks/s (log)", bars(rows, "rate", names, {})))
    return panels


def bars(
    rows: list[dict[str, Any]], field: str, names: list[tuple[str, str | None]], conditions: dict[str, Any]
) -> list[Bar]:
    """Return a bar for each name (a system and its batch) that was measured, the longest first."""
    found = []
    for name, batch in names:
        key = {**conditions, "system": name, **({} if batch is None else {"batch": batch})}
        if one := figure(rows, field, **key):
            label = f"{name}, batch 1" if batch == "1" else name
            found.append((label, one.median, one.low, one.high))
    return sorted(found, key=lambda bar: -bar[1])
