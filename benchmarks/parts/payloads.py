"""Part 6: payloads of 100 B to 1 MB that come back as results, with MutiTask and the fastest peers."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Drain, drain_bare, drain_mutitask, drain_peer, run_or_report
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from worker_agent.protocol.bodies import APART_BYTES

SIZES = (
    (100, 20_000, 3.0),
    (1_000, 20_000, 3.0),
    (10_000, 10_000, 2.0),
    (100_000, 1_500, 0.4),
    (1_000_000, 200, 0.05),
)
"""The size of a payload in bytes, the most tasks, and for how many seconds of no-ops a peer gets tasks."""
PEER_COUNT = 4
"""How many peers are measured, the fastest first."""
BARE_BATCH_BYTES = 4_000_000
"""How many bytes the bare loop moves at once. It is slower with a quarter of it."""


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds, at most two."""
    rows = []
    fastest = sorted((p for p in plan.peers if p.redis), key=lambda p: -p.expected_rate)[:PEER_COUNT]
    for number in range(min(2, plan.rounds)):
        progress(f"round {number + 1}: payloads")
        for size, most, seconds in SIZES:
            measured: list[tuple[str, Drain | None]] = [
                ("MutiTask", drain_mutitask("off", Options("", "", tasks=most, payload=size))),
                ("bare loop", bare(most, size)),
            ]
            for peer in fastest:
                tasks = max(100, min(most, int(peer.expected_rate * seconds / (2 if plan.quick else 1))))
                options = Options("", "", tasks=tasks, payload=size)
                drain = run_or_report(peer.label, drain_peer, peer, "off", options)
                measured.append((peer.label, drain))
            for system, drain in measured:
                if drain:
                    progress(
                        f"  {size:9,} B {system:20} fed {drain.fed_per_s:9,.0f}/s "
                        f"drained {drain.drained_per_s:9,.0f}/s {drain.drain_us:8.2f} us"
                    )
                    rows.append({"system": system, "bytes": size, **drain.as_dict()})
    return rows


def bare(tasks: int, size: int) -> Drain:
    """Measure the bare loop in the form that MutiTask has for this size, in batches of the same bytes."""
    batch = max(1, min(1_000, BARE_BATCH_BYTES // size))
    return drain_bare("off", tasks, batch, payload=size, apart=size >= APART_BYTES)
