"""Part 1, second half: one agent drains the same no-ops from 1, 3 and 100 channels."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import drain_mutitask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress

CHANNELS = (1, 3, 100)


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure each number of channels in turn."""
    rows = []
    for _ in range(plan.rounds):
        for channels in CHANNELS:
            drain = drain_mutitask("off", Options("", "", tasks=plan.many, channels=channels))
            progress(f"  {channels:3} channels {drain.drained_per_s:10,.0f}/s {drain.drain_us:6.2f} us")
            rows.append({"channels": channels, "rate": drain.drained_per_s, "us": drain.drain_us})
    return rows
