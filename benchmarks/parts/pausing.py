"""Part 7: the time from `pause_all` until the last of 200 simulated devices is paused, while tasks run."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.figures import percentile
from benchmarks.fleet import running_fleet, seconds_until
from benchmarks.plan import Plan, progress

DEVICES = 200


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure at a moderate and at a high rate of tasks."""
    rows = []
    times = 5 if plan.quick else 30
    for rate in (5_000, 20_000):
        with running_fleet(DEVICES, rate, eager=True) as fleet:
            fleet.wait_for(lambda s: s.server is not None, 20)
            fleet.add_devices(0, DEVICES)
            waits = []
            for number in range(times):
                seconds_until(fleet, "start_all", "running")
                time.sleep(0.5 + 0.1 * (number * 997 % 10 / 10))
                waits.append(seconds_until(fleet, "pause_all", "paused") * 1000)
        progress(
            f"  {rate:,}/s: p50 {percentile(waits, 0.5):.0f} ms, p99 {percentile(waits, 0.99):.0f} ms of {times}"
        )
        rows.append({"devices": DEVICES, "rate": rate, "waits": [round(wait, 2) for wait in waits]})
    return rows
