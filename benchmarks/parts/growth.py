"""Part 8: what a task costs Valkey as devices and waiting tasks grow: no cost may grow faster than the work."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.fleet import A_BATCH, Fleet, fleet_of, obeying
from benchmarks.measure import drain_mutitask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say

RATE = 10_000
"""Tasks a second that all devices together are to settle, few or many."""


def used(fleet: Fleet) -> tuple[float, int]:
    """Valkey's CPU time so far in seconds, and the bytes of its data."""
    info: Any = fleet.reader.client.info()
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"]), int(info["used_memory"])


def devices(count: int, seconds: float) -> dict[str, Any]:
    """So many simulated devices at the same rate in all; each settles a batch of 50 when it is over."""
    batch_s = A_BATCH * count / RATE
    with fleet_of(count, RATE) as fleet:
        fleet.until(lambda s: s.server is not None, 20)
        fleet.join(0, count)
        idle, _ = used(fleet)
        began = time.monotonic()
        time.sleep(2.0)
        resting = (used(fleet)[0] - idle) / (time.monotonic() - began)
        obeying(fleet, "start_all", "running")
        time.sleep(2.0 + batch_s)
        before, memory = used(fleet)
        done, began = fleet.done(), time.monotonic()
        time.sleep(max(seconds, 2 * batch_s))
        after, _ = used(fleet)
        done, took = fleet.done() - done, time.monotonic() - began
    return {
        "devices": count, "rate": done / took, "us": (after - before) / max(1, done) * 1e6,
        "resting_us_a_device": resting / count * 1e6, "memory": memory,
    }  # fmt: skip


def run(plan: Plan) -> list[dict[str, Any]]:
    """Devices first, then waiting tasks."""
    rows: list[dict[str, Any]] = []
    for count in (1, 10, 100, 1000):
        found = devices(count, 2.0 if plan.quick else 6.0)
        say(
            f"  {count:5,} devices {found['rate']:9,.0f}/s {found['us']:6.2f} us a task; at rest "
            f"{found['resting_us_a_device']:6.0f} us/s a device"
        )
        rows.append(found)
    for waiting in (1_000, 10_000, 100_000, *(() if plan.quick else (1_000_000,))):
        drain = drain_mutitask("off", Options("", "", tasks=waiting))
        say(
            f"  {waiting:9,} waiting: fed {drain.fed_per_s:9,.0f}/s {drain.feed_us:5.2f} us, drained "
            f"{drain.drained_per_s:9,.0f}/s {drain.drain_us:5.2f} us, {drain.memory:.0f} bytes a task"
        )
        rows.append({"waiting": waiting, **drain.told()})
    return rows
