"""`make bench`, or `python -m benchmarks [PART ...]`: compares MutiTask with its peers and with the bare loop."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import replace

from benchmarks import report, store
from benchmarks.plan import Plan, progress
from benchmarks.systems import PEERS, install

PARTS = {
    "noop": "drain no-ops that wait in Redis",
    "channels": "drain no-ops from 1, 3 and 100 channels",
    "feeding": "feed tasks from a generator into Redis",
    "whole": "from a generator to the results, 1 to 8 agents",
    "latency": "latency at 100 tasks/s",
    "tasks": "1 ms and 100 ms tasks, 32 at once",
    "coroutines": "32 to 10,000 coroutines that sleep, beside asyncio.gather",
    "mixed": "1 % of the tasks take 2 s, the others 1 ms",
    "payloads": "payloads of 100 B to 1 MB",
    "pausing": "pause_all with 200 devices",
    "growth": "1 to 1,000 devices, 1,000 to 1,000,000 waiting tasks",
    "footprint": "an agent's start, memory and idle CPU",
}


def options() -> argparse.Namespace:
    """Parse the command line."""
    parts = "\n".join(f"  {name:10} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=f"{__doc__}\n\nparts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="the parts to measure [all]")
    parser.add_argument("--quick", action="store_true", help="one round and less work: a few minutes")
    parser.add_argument("--short", action="store_true", help="MutiTask and the bare loop only: a few seconds")
    parser.add_argument("--rounds", type=int, help="how often each figure is measured [3]")
    parser.add_argument("--peers", help="only these peers, separated by commas; `none` for no peer")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing; write the page and the chart from the summary"
    )
    parser.add_argument("--no-docs", action="store_true", help="store no results and write no page")
    chosen = parser.parse_args()
    for part in chosen.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}: the parts are {', '.join(PARTS)}")
    return chosen


def main() -> None:
    """Measure, store the results and write the page."""
    chosen = options()
    if chosen.short:
        importlib.import_module("benchmarks.short").run()
        return
    if not chosen.report:
        measure(chosen)
    if not chosen.no_docs:
        progress(f"written: {', '.join(report.write())}")


def measure(chosen: argparse.Namespace) -> None:
    """Measure the chosen parts. Store the results of each part as soon as it ends."""
    plan = (
        Plan(rounds=1, seconds=1.0, tasks=20_000, many=50_000, quick=True) if chosen.quick else Plan(3, 3.0)
    )
    if chosen.rounds:
        plan = replace(plan, rounds=chosen.rounds)
    names = None if chosen.peers is None else chosen.peers.split(",")
    installed, missing = [], {}
    for peer in PEERS:
        if names is not None and peer.name not in names:
            continue
        if why := install(peer):
            missing[peer.label] = why
            progress(f"{peer.label} is left out: {why}")
        else:
            installed.append(peer)
    plan = replace(plan, peers=tuple(installed))
    for part in chosen.parts or PARTS:
        progress(f"== {part}: {PARTS[part]}")
        started = time.monotonic()
        rows = importlib.import_module(f"benchmarks.parts.{part}").run(plan)
        took_s = time.monotonic() - started
        progress(f"   {part} took {took_s:.0f} s")
        if not chosen.no_docs:
            progress(f"   raw figures: {store.save(part, rows, plan, missing, took_s)}")


if __name__ == "__main__":
    sys.exit(main())
