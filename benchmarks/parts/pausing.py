"""Part 7: `pause_all` from asked to the last of 200 devices obeying, while work flows; the devices are simulated."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.figures import percentile
from benchmarks.fleet import fleet_of, obeying
from benchmarks.plan import Plan, say

DEVICES = 200


def run(plan: Plan) -> list[dict[str, Any]]:
    """At a moderate and at a high flow of tasks."""
    rows = []
    times = 5 if plan.quick else 30
    for rate in (5_000, 20_000):
        with fleet_of(DEVICES, rate, eager=True) as fleet:
            fleet.until(lambda s: s.server is not None, 20)
            fleet.join(0, DEVICES)
            waits = []
            for number in range(times):
                obeying(fleet, "start_all", "running")
                time.sleep(0.5 + 0.1 * (number * 997 % 10 / 10))
                waits.append(obeying(fleet, "pause_all", "paused") * 1000)
        say(
            f"  {rate:,}/s: p50 {percentile(waits, 0.5):.0f} ms, p99 {percentile(waits, 0.99):.0f} ms of {times}"
        )
        rows.append({"devices": DEVICES, "rate": rate, "waits": [round(wait, 2) for wait in waits]})
    return rows
