"""Part 8: Valkey's CPU per task with more devices and more waiting tasks. It must not grow faster than the work."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.fleet import BATCH, Fleet, running_fleet, seconds_until
from benchmarks.measure import drain_mutitask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress

RATE = 10_000
"""How many tasks per second all devices together settle, for any number of devices."""


def valkey_usage(fleet: Fleet) -> tuple[float, int]:
    """Return Valkey's CPU time so far in seconds, and the memory of its data in bytes."""
    info: Any = fleet.reader.client.info()
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"]), int(info["used_memory"])


def devices(count: int, seconds: float) -> dict[str, Any]:
    """Measure `count` simulated devices at the same total rate. Each settles its tasks in batches of 50."""
    batch_s = BATCH * count / RATE
    with running_fleet(count, RATE) as fleet:
        fleet.wait_for(lambda s: s.server is not None, 20)
        fleet.add_devices(0, count)
        idle, _ = valkey_usage(fleet)
        started = time.monotonic()
        time.sleep(2.0)
        idle_load = (valkey_usage(fleet)[0] - idle) / (time.monotonic() - started)
        seconds_until(fleet, "start_all", "running")
        time.sleep(2.0 + batch_s)
        before, memory = valkey_usage(fleet)
        done, started = fleet.done(), time.monotonic()
        time.sleep(max(seconds, 2 * batch_s))
        after, _ = valkey_usage(fleet)
        done, took = fleet.done() - done, time.monotonic() - started
    return {
        "devices": count, "rate": done / took, "us": (after - before) / max(1, done) * 1e6,
        "idle_us_per_device": idle_load / count * 1e6, "memory": memory,
    }  # fmt: skip


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure the numbers of devices, then the numbers of waiting tasks."""
    rows: list[dict[str, Any]] = []
    for count in (1, 10, 100, 1000):
        found = devices(count, 2.0 if plan.quick else 6.0)
        progress(
            f"  {count:5,} devices {found['rate']:9,.0f}/s {found['us']:6.2f} us per task; idle "
            f"{found['idle_us_per_device']:6.0f} us/s per device"
        )
        rows.append(found)
    for waiting in (1_000, 10_000, 100_000, *(() if plan.quick else (1_000_000,))):
        drain = drain_mutitask("off", Options("", "", tasks=waiting))
        progress(
            f"  {waiting:9,} waiting: fed {drain.fed_per_s:9,.0f}/s {drain.feed_us:5.2f} us, drained "
            f"{drain.drained_per_s:9,.0f}/s {drain.drain_us:5.2f} us, {drain.memory:.0f} bytes per task"
        )
        rows.append({"waiting": waiting, **drain.as_dict()})
    return rows
