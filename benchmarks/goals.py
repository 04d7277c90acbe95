"""The goals, and whether the kept figures reach them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import PURE, Row, best, middle, systems, times

HELD: dict[str, object] = {"persistence": "off", "delay_ms": 0.0, "results": True}


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal. `reached` is None where it was not measured."""

    text: str
    figure: str
    reached: bool | None


def at_least(text: str, value: float, least: float, unit: str = "x") -> Goal:
    """A goal that a ratio reaches from `least` on."""
    return Goal(text, f"{value:.2f}{unit}" if value else "not measured", value >= least if value else None)


def at_most(text: str, value: float, most: float, unit: str) -> Goal:
    """A goal that a cost reaches up to `most`."""
    return Goal(text, f"{value:.2f} {unit}", value <= most)


def of_noop(rows: list[Row]) -> list[Goal]:
    """Part 1. All compare 20,000 waiting no-ops."""
    rows = [row for row in rows if row.get("tasks", 0) <= 20_000]
    field = "drained_per_s"
    ours = middle(rows, field, system="MutiTask", batch="adaptive", **HELD)
    pure = best(rows, field, PURE, **HELD)
    plain = middle(rows, field, system="bare loop", batch="1000", **HELD)
    always = middle(
        rows, field, system="MutiTask", batch="adaptive", persistence="always", delay_ms=0.0, results=True
    )
    ours_us = middle(rows, "drain_us", system="MutiTask", batch="100", **HELD)
    bare_us = middle(rows, "drain_us", system="bare loop", batch="100", **HELD)
    theirs_us, cheapest = min(
        ((us, name) for name in systems(rows) if (us := middle(rows, "drain_us", system=name, **HELD))),
        default=(0.0, ""),
    )
    unfiled = best(rows, field, systems(rows), persistence="off", delay_ms=0.0)
    return [
        at_least("no-ops: at least 8 times ArdiQ", times(ours, middle(rows, field, system="ArdiQ", **HELD)), 8),
        at_least(f"no-ops: at least 20 times the fastest peer in pure Python ({pure[0]})", times(ours, pure[1]), 20),
        at_least("no-ops: at least half of the bare loop", times(ours, plain), 0.5),
        at_least(
            f"with `appendfsync always` faster than every peer without a file ({unfiled[0]})",
            times(always, unfiled[1]), 1,
        ),
        at_most(
            f"Valkey's CPU for a task under 3 us at batches of 100 (the bare loop: {bare_us:.1f} us)",
            ours_us, 3.0, "us",
        ),
        at_least(
            f"as a ratio, 3 us to 26: the cheapest peer ({cheapest}, {theirs_us:.1f} us) costs 8.7 times as much",
            times(theirs_us, ours_us), 8.7,
        ),
    ]  # fmt: skip


def of_feeding(parts: dict[str, list[Row]]) -> list[Goal]:
    """Parts 2 and 3."""
    rows = parts["feeding"]
    ours, ardiq = middle(rows, "rate", system="MutiTask"), middle(rows, "rate", system="ArdiQ")
    pure = best(rows, "rate", PURE)
    goals = [
        at_least("feeding: at least 2.5 times ArdiQ's `enqueue_many`", times(ours, ardiq), 2.5),
        at_least(
            f"feeding: at least 15 times the fastest peer in pure Python ({pure[0]})",
            times(ours, pure[1]),
            15,
        ),
    ]
    if "whole" in parts and "noop" in parts:
        whole = middle(parts["whole"], "rate", capacity=1000, agents=1)
        drain = middle(parts["noop"], "drained_per_s", system="ArdiQ", **HELD)
        goals.append(at_least("the whole way: at least 8 times ArdiQ's drain alone", times(whole, drain), 8))
    return goals


def of_latency(rows: list[Row]) -> list[Goal]:
    """Part 4."""
    waits = {row["system"]: row["started"] for row in rows}
    ours = waits["MutiTask"]
    others = [(waits[name], name) for name in systems(rows)]
    goals = []
    for place, label in ((0, "p50"), (1, "p99")):
        if others:
            theirs, name = min((theirs[place], name) for theirs, name in others)
            goals.append(
                Goal(
                    f"yielded to started, {label}: no worse than the fastest peer ({name}, {theirs:.2f} ms)",
                    f"{ours[place]:.2f} ms", ours[place] <= theirs,
                )
            )  # fmt: skip
    return [*goals, at_most("yielded to started, p99.9 under 10 ms", ours[2], 10.0, "ms")]


def of_tasks(rows: list[Row]) -> list[Goal]:
    """Part 5."""
    ours = [row["rate"] / row["alone"] for row in rows if _is_ours(row, "threads", 1.0)]
    return [at_least("1 ms tasks, 32 threads: 90 % of the pool alone", statistics.median(ours), 0.9, "")]


def _is_ours(row: Row, way: str, nap_ms: float) -> bool:
    return bool(row["system"] == "MutiTask" and row["way"] == way and row["nap_ms"] == nap_ms)


def of_mixed(rows: list[Row]) -> list[Goal]:
    """Part 5, second half."""
    return [
        at_most("mixed: no device idle longer than 0.5 s", max(row["longest_idle"] for row in rows), 0.5, "s"),
        at_most(
            "mixed: a short task behind a long one on a device with a free slot (four slots)",
            max(row["behind_free"] for row in rows if row["concurrency"] > 1), 0.1, "s",
        ),
    ]  # fmt: skip


def of_pausing(rows: list[Row]) -> list[Goal]:
    """Part 7."""
    return [
        at_most(
            f"`pause_all`, {row['devices']} devices at {row['rate']:,} tasks/s: p99 under 100 ms",
            row["p99"], 100.0, "ms",
        )
        for row in rows
    ]  # fmt: skip


def of_footprint(rows: list[Row]) -> list[Goal]:
    """Part 9."""
    starts, held = rows
    later = starts["agent_s"] - starts["bare_s"]
    return [
        at_most("agent: at most 12 MB above a bare process", (held["idle_kb"] - held["bare_kb"]) / 1024, 12.0, "MB"),
        at_most("agent: its first task at most 150 ms later than a bare process", later * 1000, 150.0, "ms"),
        at_most("agent: idle CPU under 0.5 %", held["idle_cpu"] * 100, 0.5, "%"),
        at_most(
            f"agent: memory after {held['tasks']:,} tasks where it was after 20,000",
            (held["late_kb"] - held["early_kb"]) / 1024, 1.0, "MB more",
        ),
    ]  # fmt: skip


def goals(parts: dict[str, Any]) -> list[Goal]:
    """All that can be told from the kept parts."""
    rows = {name: part["rows"] for name, part in parts.items()}
    found: list[Goal] = []
    if "noop" in rows:
        found += of_noop(rows["noop"])
    if "feeding" in rows:
        found += of_feeding(rows)
    for name, of in (
        ("latency", of_latency), ("tasks", of_tasks), ("mixed", of_mixed), ("pausing", of_pausing),
        ("footprint", of_footprint),
    ):  # fmt: skip
        if name in rows:
            found += of(rows[name])
    return found
