"""The short form for CI: MutiTask and the bare loop, a few seconds; fails on a broken run, never on a time."""

from __future__ import annotations

import statistics

from benchmarks.measure import drain_bare, drain_mutitask
from benchmarks.parts.whole import whole_way
from benchmarks.peers.kit import Options
from benchmarks.plan import say

TASKS = 20_000
ROUNDS = 3


def run() -> None:
    """Measure in turn and print the ratio, so that a fall is seen."""
    bare, ours, whole, cpu = [], [], [], []
    for _ in range(ROUNDS):
        bare.append(drain_bare("off", TASKS, 1000).drained_per_s)
        found = drain_mutitask("off", Options("", "", tasks=TASKS))
        ours.append(found.drained_per_s)
        cpu.append(found.drain_us)
        whole.append(whole_way(Options("", "", tasks=TASKS, capacity=1000), 1)[0])
    limit = statistics.median(bare)
    for label, rates in (("bare loop", bare), ("no-ops worked off", ours), ("generator to results", whole)):
        middle = statistics.median(rates)
        say(
            f"{label:22} {middle:9,.0f} tasks/s ({min(rates):,.0f} to {max(rates):,.0f}), "
            f"{middle / limit:.2f} of the bare loop"
        )
    say(f"Valkey's CPU for each no-op: {statistics.median(cpu):.1f} us")
