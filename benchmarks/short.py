"""The short run (`--short`): MutiTask and the bare loop, in a few seconds.

It fails if a measurement is broken, but never because a figure is low.
"""

from __future__ import annotations

import statistics

from benchmarks.measure import drain_bare, drain_mutitask
from benchmarks.parts.whole import whole_way
from benchmarks.peers.kit import Options
from benchmarks.plan import progress

TASKS = 20_000
ROUNDS = 3


def run() -> None:
    """Measure both in turn and print the ratio, which shows a slowdown."""
    bare, drained, whole, cpu = [], [], [], []
    for _ in range(ROUNDS):
        bare.append(drain_bare("off", TASKS, 1000).drained_per_s)
        drain = drain_mutitask("off", Options("", "", tasks=TASKS))
        drained.append(drain.drained_per_s)
        cpu.append(drain.drain_us)
        whole.append(whole_way(Options("", "", tasks=TASKS, capacity=1000), 1)[0])
    limit = statistics.median(bare)
    for label, rates in (("bare loop", bare), ("no-ops drained", drained), ("generator to results", whole)):
        median = statistics.median(rates)
        progress(
            f"{label:22} {median:9,.0f} tasks/s ({min(rates):,.0f} to {max(rates):,.0f}), "
            f"{median / limit:.2f} of the bare loop"
        )
    progress(f"Valkey's CPU per no-op: {statistics.median(cpu):.1f} us")
