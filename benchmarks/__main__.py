"""`make bench`, or `python -m benchmarks [PART ...]`: MutiTask, its peers and the limit, on the same work in turn."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import replace

from benchmarks import report, store
from benchmarks.plan import Plan, say
from benchmarks.systems import PEERS, install

PARTS = {
    "noop": "no-ops that wait in Redis",
    "feeding": "from a generator into Redis",
    "whole": "the whole way, 1 to 8 agents",
    "latency": "at 100 tasks/s",
    "tasks": "1 ms and 100 ms tasks, 32 at once",
    "mixed": "a hundredth of the tasks takes 2 s",
    "payloads": "100 B, 10 kB and 1 MB",
    "pausing": "pause_all with 200 devices",
    "growth": "1 to 1,000 devices, 1,000 to 1,000,000 waiting tasks",
    "footprint": "an agent's start, memory and idle CPU",
}


def options() -> argparse.Namespace:
    """The command line."""
    parts = "\n".join(f"  {name:10} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=f"{__doc__}\n\nparts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="which parts; without it all of them")
    parser.add_argument("--quick", action="store_true", help="one round of each and less work: a few minutes")
    parser.add_argument(
        "--short", action="store_true", help="MutiTask and the bare loop alone, within seconds"
    )
    parser.add_argument("--rounds", type=int, help="how often each figure is taken [3]")
    parser.add_argument("--peers", help="only these peers, with commas; `none` for none of them")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing, write the docs from what is kept"
    )
    parser.add_argument("--no-docs", action="store_true", help="keep nothing and write no docs")
    chosen = parser.parse_args()
    for part in chosen.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}: the parts are {', '.join(PARTS)}")
    return chosen


def main() -> None:
    """Measure, keep, write."""
    chosen = options()
    if chosen.short:
        importlib.import_module("benchmarks.short").run()
        return
    if not chosen.report:
        measure(chosen)
    if not chosen.no_docs:
        say(f"written: {', '.join(report.write())}")


def measure(chosen: argparse.Namespace) -> None:
    """The parts that were asked for, each kept as soon as it is over."""
    plan = (
        Plan(rounds=1, seconds=1.0, tasks=20_000, many=50_000, quick=True) if chosen.quick else Plan(3, 3.0)
    )
    if chosen.rounds:
        plan = replace(plan, rounds=chosen.rounds)
    wanted = None if chosen.peers is None else chosen.peers.split(",")
    present, missing = [], {}
    for peer in PEERS:
        if wanted is not None and peer.name not in wanted:
            continue
        if why := install(peer):
            missing[peer.label] = why
            say(f"{peer.label} is left out: {why}")
        else:
            present.append(peer)
    plan = replace(plan, peers=tuple(present))
    for part in chosen.parts or PARTS:
        say(f"== {part}: {PARTS[part]}")
        began = time.monotonic()
        rows = importlib.import_module(f"benchmarks.parts.{part}").run(plan)
        took_s = time.monotonic() - began
        say(f"   {part} took {took_s:.0f} s")
        if not chosen.no_docs:
            say(f"   raw figures: {store.save(part, rows, plan, missing, took_s)}")


if __name__ == "__main__":
    sys.exit(main())
