"""Reduces the raw rows of a benchmark part to the figures that `docs/benchmarks.md` and its chart need."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Row, percentile

FIELDS: dict[str, tuple[str, ...]] = {
    "noop": (
        "system", "batch", "persistence", "results", "delay_ms", "tasks", "drained_per_s", "drain_us", "rate",
    ),
    "channels": ("channels", "rate", "us"),
    "feeding": ("system", "rate", "us"),
    "whole": ("capacity", "agents", "rate", "us"),
    "tasks": ("system", "pool", "nap_ms", "rate", "alone"),
    "mixed": (
        "concurrency", "took", "ideal", "longest_idle", "idle_share", "behind_p99", "behind_most", "behind_free",
    ),
    "coroutines": ("system", "nap_ms", "at_once", "rate", "cpu_us", "peak_kb"),
    "payloads": ("system", "bytes", "fed_per_s", "drained_per_s", "drain_us"),
    "growth": (
        "devices", "rate", "us", "idle_us_per_device",
        "waiting", "fed_per_s", "feed_us", "drained_per_s", "drain_us", "memory",
    ),
}  # fmt: skip
"""The fields that the tables and the goals read, by part. Each row of these parts is one measurement."""

PACKAGES = frozenset(
    {
        "ardiq", "huey", "taskiq", "taskiq-redis", "dramatiq", "saq", "arq", "streaq", "celery", "kombu", "rq",
        "distributed", "redis", "hiredis", "coredis", "uvloop", "python",
    }
)  # fmt: skip
"""The packages whose versions the page names, in lower case."""


def summarize(part: str, rows: list[Row]) -> list[Row]:
    """Return the rows of a part without the raw values that the page does not need."""
    if part in DISTRIBUTIONS:
        return DISTRIBUTIONS[part](rows)
    return [{name: row[name] for name in FIELDS[part] if name in row} for row in rows]


def named_versions(versions: dict[str, str]) -> dict[str, str]:
    """Return the versions of the packages that the page names."""
    return {name: version for name, version in versions.items() if name.lower() in PACKAGES}


def to_json(summary: dict[str, Any]) -> str:
    """Return a summary as JSON with one row on each line, so that a diff shows what changed."""
    parts = []
    for name, part in sorted(summary["parts"].items()):
        head = json.dumps({key: value for key, value in part.items() if key != "rows"}, sort_keys=True)
        rows = ",\n".join(f"   {json.dumps(row, sort_keys=True)}" for row in part["rows"])
        parts.append(f'  {json.dumps(name)}: {head[:-1]}, "rows": [\n{rows}\n  ]}}')
    peers = [
        f"  {json.dumps(label)}: {json.dumps(peer, sort_keys=True)}"
        for label, peer in sorted(summary.get("peers", {}).items())
    ]
    missing = json.dumps(summary.get("missing", {}), sort_keys=True)
    return (
        f'{{\n "missing": {missing},\n "parts": {{\n' + ",\n".join(parts) + "\n },\n"
        ' "peers": {\n' + ",\n".join(peers) + "\n }\n}\n"
    )


def _latency(rows: list[Row]) -> list[Row]:
    """One row for each system, with the p50, p99 and p99.9 of the waits of all its rounds, in ms."""
    systems = dict.fromkeys(row["system"] for row in rows)
    return [
        {
            "system": system,
            "count": sum(len(row["started"]) for row in rows if row["system"] == system),
            **{name: _percentiles(rows, system, name) for name in ("started", "read")},
        }
        for system in systems
    ]


def _percentiles(rows: list[Row], system: str, field: str) -> list[float]:
    waits = [wait for row in rows if row["system"] == system for wait in row[field]]
    return [percentile(waits, share) for share in (0.5, 0.99, 0.999)]


def _pausing(rows: list[Row]) -> list[Row]:
    """One row for each rate, with the p50 and the p99 of the waits, in ms."""
    return [
        {
            "devices": row["devices"], "rate": row["rate"], "count": len(row["waits"]),
            "p50": percentile(row["waits"], 0.5), "p99": percentile(row["waits"], 0.99),
        }
        for row in rows
    ]  # fmt: skip


def _footprint(rows: list[Row]) -> list[Row]:
    """The median start times in seconds, then the memory and the CPU."""
    starts, memory = rows
    medians = {
        "agent_s": statistics.median(starts["starts"]),
        "bare_s": statistics.median(starts["bare_starts"]),
    }
    return [medians, memory]


DISTRIBUTIONS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "latency": _latency, "pausing": _pausing, "footprint": _footprint,
}  # fmt: skip
"""The parts whose rows hold many single values. Their summary keeps percentiles or medians."""
