"""The goals of the benchmark, and whether the figures of a summary reach them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import PURE_PYTHON, Row, fastest, measured_peers, median_of, ratio

BASE: dict[str, object] = {"persistence": "off", "delay_ms": 0.0, "results": True}
"""The conditions of most goals: no append-only file, no added latency, results saved."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and the figure that was measured."""

    text: str
    figure: str
    reached: bool | None
    """Whether the figure reaches the goal; None if it was not measured."""


def at_least(text: str, value: float, least: float, unit: str = "x") -> Goal:
    """Return a goal that a figure of at least `least` reaches."""
    return Goal(text, f"{value:.2f}{unit}" if value else "not measured", value >= least if value else None)


def at_most(text: str, value: float, most: float, unit: str) -> Goal:
    """Return a goal that a figure of at most `most` reaches."""
    return Goal(text, f"{value:.2f} {unit}", value <= most)


def noop_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 1. All but one of them compare 20,000 waiting no-ops."""
    many = [row for row in rows if row.get("tasks", 0) > 20_000]
    rows = [row for row in rows if row.get("tasks", 0) <= 20_000]
    field = "drained_per_s"
    ours = median_of(rows, field, system="MutiTask", batch="adaptive", **BASE)
    pure = fastest(rows, field, PURE_PYTHON, **BASE)
    bare = median_of(rows, field, system="bare loop", batch="1000", **BASE)
    always = median_of(
        rows, field, system="MutiTask", batch="adaptive", persistence="always", delay_ms=0.0, results=True
    )
    ours_us = median_of(rows, "drain_us", system="MutiTask", batch="100", **BASE)
    bare_us = median_of(rows, "drain_us", system="bare loop", batch="100", **BASE)
    theirs_us, cheapest = min(
        (
            (us, name)
            for name in measured_peers(rows)
            if (us := median_of(rows, "drain_us", system=name, **BASE))
        ),
        default=(0.0, ""),
    )
    without_file = fastest(rows, field, measured_peers(rows), persistence="off", delay_ms=0.0)
    return [
        at_least("no-ops: at least 8 times ArdiQ", ratio(ours, median_of(rows, field, system="ArdiQ", **BASE)), 8),
        at_least(f"no-ops: at least 20 times the fastest peer in pure Python ({pure[0]})", ratio(ours, pure[1]), 20),
        at_least("no-ops: at least 55 % of the bare loop", ratio(ours, bare), 0.55),
        at_least(
            "100,000 no-ops: at least 60 % of the bare loop",
            ratio(*(median_of(many, field, system=name, **BASE) for name in ("MutiTask", "bare loop"))), 0.6,
        ),
        at_least(
            "no-ops one by one: as fast as ArdiQ with one in flight",
            ratio(
                median_of(rows, field, system="MutiTask", batch="1", **BASE),
                median_of(rows, field, system="ArdiQ, one in flight", **BASE),
            ), 1,
        ),
        at_least(
            f"no-ops with `appendfsync always`: faster than every peer without a file ({without_file[0]})",
            ratio(always, without_file[1]), 1,
        ),
        at_most(
            f"Valkey's CPU per task under 3 us at batches of 100 (bare loop: {bare_us:.1f} us)",
            ours_us, 3.0, "us",
        ),
        at_least(
            f"Valkey's CPU per task: the cheapest peer ({cheapest}, {theirs_us:.1f} us) uses 8.7 times as much or more",
            ratio(theirs_us, ours_us), 8.7,
        ),
    ]  # fmt: skip


def feeding_goals(parts: dict[str, list[Row]]) -> list[Goal]:
    """Return the goals of parts 2 and 3."""
    rows = parts["feeding"]
    ours, ardiq = median_of(rows, "rate", system="MutiTask"), median_of(rows, "rate", system="ArdiQ")
    pure = fastest(rows, "rate", PURE_PYTHON)
    found = [
        at_least("feeding: at least 2.5 times ArdiQ's `enqueue_many`", ratio(ours, ardiq), 2.5),
        at_least(
            f"feeding: at least 15 times the fastest peer in pure Python ({pure[0]})",
            ratio(ours, pure[1]),
            15,
        ),
    ]
    if "whole" in parts and "noop" in parts:
        whole = median_of(parts["whole"], "rate", capacity=1000, agents=1)
        drain = median_of(parts["noop"], "drained_per_s", system="ArdiQ", **BASE)
        found.append(
            at_least(
                "generator to results: at least 8 times ArdiQ's drain rate alone", ratio(whole, drain), 8
            )
        )
    return found


def latency_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 4."""
    waits = {row["system"]: row["started"] for row in rows}
    ours = waits["MutiTask"]
    others = [(waits[name], name) for name in measured_peers(rows)]
    found = []
    for index, label in ((0, "p50"), (1, "p99")):
        if others:
            theirs, name = min((theirs[index], name) for theirs, name in others)
            found.append(
                Goal(
                    f"yielded to started, {label}: no worse than the fastest peer ({name}, {theirs:.2f} ms)",
                    f"{ours[index]:.2f} ms", ours[index] <= theirs,
                )
            )  # fmt: skip
    if "Huey" in waits:
        found.append(
            at_most(
                "yielded to started, p99: at most 0.85 of Huey's", ratio(ours[1], waits["Huey"][1]), 0.85, "x"
            )
        )
    return [*found, at_most("yielded to started, p99.9 under 10 ms", ours[2], 10.0, "ms")]


def task_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 5."""
    ours = [row["rate"] / row["alone"] for row in rows if _is_ours(row, "threads", 1.0)]
    share = statistics.median(ours)
    return [
        at_least("1 ms tasks, 32 threads: at least 90 % of the rate of the threads alone", share, 0.9, "")
    ]


def _is_ours(row: Row, pool: str, nap_ms: float) -> bool:
    return bool(row["system"] == "MutiTask" and row["pool"] == pool and row["nap_ms"] == nap_ms)


def mixed_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of the second half of part 5."""
    return [
        at_most("mixed: no device idle longer than 0.5 s", max(row["longest_idle"] for row in rows), 0.5, "s"),
        at_most(
            "mixed, four slots: a short task waits at most 0.1 s while its device has a free slot",
            max(row["behind_free"] for row in rows if row["concurrency"] > 1), 0.1, "s",
        ),
    ]  # fmt: skip


def payload_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 6."""
    found = []
    for size, named, least in ((10_000, "10 kB", 15.0), (100_000, "100 kB", 15.0), (1_000_000, "1 MB", 1.3)):
        peer, theirs = fastest(rows, "drained_per_s", measured_peers(rows), bytes=size)
        if not peer:
            continue
        ours = median_of(rows, "drained_per_s", system="MutiTask", bytes=size)
        bare = ratio(median_of(rows, "drained_per_s", system="bare loop", bytes=size), theirs)
        found.append(
            at_least(
                f"{named}, drained: at least {least:g} times the fastest peer ({peer}; bare loop: {bare:.1f}x)",
                ratio(ours, theirs), least,
            )
        )  # fmt: skip
    large = [row for row in rows if row["bytes"] == 1_000_000]
    if peers := measured_peers(large):
        us, peer = min((median_of(large, "drain_us", system=name), name) for name in peers)
        ours = median_of(large, "drain_us", system="MutiTask")
        found.append(
            at_most(
                f"1 MB: no more of Valkey's CPU than the cheapest peer ({peer}) uses",
                ratio(ours, us),
                1.0,
                "x",
            )
        )
    return found


def coroutine_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of coroutines on one event loop."""
    found = []
    for nap_ms, at_once, least in ((1.0, 32, 0.95), (100.0, 1_000, 0.98), (100.0, 10_000, 0.95)):
        case = {"nap_ms": nap_ms, "at_once": at_once}
        ours, alone = (median_of(rows, "rate", system=name, **case) for name in ("MutiTask", "gather"))
        found.append(
            at_least(
                f"coroutines of {nap_ms:g} ms, {at_once:,} at once: at least {least:.0%} of asyncio.gather",
                ratio(ours, alone), least, "",
            )
        )  # fmt: skip
    most = max(row["cpu_us"] for row in rows if row["system"] == "MutiTask")
    memory, alone = (
        median_of(rows, "peak_kb", system=name, at_once=10_000) for name in ("MutiTask", "gather")
    )
    memory_ratio = ratio(memory, alone)
    return [
        *found,
        at_most("coroutines: under 25 us of the agent's CPU a task", most, 25.0, "us"),
        at_most(
            "10,000 coroutines at once: at most twice the memory of asyncio.gather",
            memory_ratio,
            2.0,
            "x",
        ),
    ]


def channel_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of an agent that serves several channels."""
    one = median_of(rows, "rate", channels=1)
    return [
        at_least(
            f"no-ops from {count} channels: at least {least:.0%} of the rate of one",
            ratio(median_of(rows, "rate", channels=count), one), least, "",
        )
        for count, least in ((3, 0.95), (100, 0.8))
    ]  # fmt: skip


def pausing_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 7."""
    return [
        at_most(
            f"`pause_all`, {row['devices']} devices at {row['rate']:,} tasks/s: p99 under 100 ms",
            row["p99"], 100.0, "ms",
        )
        for row in rows
    ]  # fmt: skip


def footprint_goals(rows: list[Row]) -> list[Goal]:
    """Return the goals of part 9."""
    starts, memory = rows
    later_ms = (starts["agent_s"] - starts["bare_s"]) * 1000
    above_mb = (memory["idle_kb"] - memory["bare_kb"]) / 1024
    return [
        at_most("agent: memory at most 12 MB above a bare process", above_mb, 12.0, "MB"),
        at_most("agent: first task at most 150 ms later than the answer of a bare process", later_ms, 150.0, "ms"),
        at_most("agent: idle CPU under 0.5 %", memory["idle_cpu"] * 100, 0.5, "%"),
        at_most(
            f"agent: memory after {memory['tasks']:,} tasks at most 1 MB above that after 20,000 tasks",
            (memory["late_kb"] - memory["early_kb"]) / 1024, 1.0, "MB",
        ),
    ]  # fmt: skip


def goals(parts: dict[str, Any]) -> list[Goal]:
    """Return the goals of all parts that were measured."""
    rows = {name: part["rows"] for name, part in parts.items()}
    found: list[Goal] = []
    if "noop" in rows:
        found += noop_goals(rows["noop"])
    if "feeding" in rows:
        found += feeding_goals(rows)
    for name, goals_of in (
        ("latency", latency_goals), ("tasks", task_goals), ("mixed", mixed_goals),
        ("coroutines", coroutine_goals), ("payloads", payload_goals),
        ("channels", channel_goals), ("pausing", pausing_goals), ("footprint", footprint_goals),
    ):  # fmt: skip
        if name in rows:
            found += goals_of(rows[name])
    return found
