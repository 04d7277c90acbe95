"""Part 6: payloads of 100 B, 10 kB and 1 MB, given back as results: MutiTask, the bare loop and the fastest peers."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import drain_mutitask, drain_peer, tried
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say

SIZES = ((100, 20_000, 3.0), (10_000, 10_000, 2.0), (1_000_000, 200, 0.05))
"""Bytes of a payload, how many tasks MutiTask is given, and for how many seconds of no-ops peers are."""
FASTEST = 4


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds, at most two."""
    rows = []
    fastest = sorted((p for p in plan.peers if p.redis), key=lambda p: -p.about)[:FASTEST]
    for number in range(min(2, plan.rounds)):
        say(f"round {number + 1}: payloads")
        for size, most, seconds in SIZES:
            measured = [("MutiTask", drain_mutitask("off", Options("", "", tasks=most, payload=size)))]
            for peer in fastest:
                tasks = max(100, min(most, int(peer.about * seconds / (2 if plan.quick else 1))))
                asked = Options("", "", tasks=tasks, payload=size)
                measured.append((peer.label, tried(peer.label, drain_peer, peer, "off", asked)))
            for system, found in measured:
                if found:
                    say(
                        f"  {size:9,} B {system:20} fed {found.fed_per_s:9,.0f}/s "
                        f"drained {found.drained_per_s:9,.0f}/s {found.drain_us:8.2f} us"
                    )
                    rows.append({"system": system, "bytes": size, **found.told()})
    return rows
