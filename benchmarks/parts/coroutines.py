"""Part 5, third part: coroutines that sleep, many at once on one loop, beside `asyncio.gather` under a semaphore."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.fleet import cpu_s
from benchmarks.footprint import peak_kb
from benchmarks.measure import drain_peer, redis_under_test, run_or_report
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.processes import Workspace

CASES = ((1.0, 32, 60_000), (100.0, 1_000, 60_000), (100.0, 10_000, 200_000))
"""How long a task sleeps in ms, how many run at once, and how many there are."""
QUICK_SHARE = 4
GATHER = """
import asyncio, json, resource, sys, time
tasks, at_once, nap_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
if sys.argv[4] == "uvloop":
    from uvloop import run
else:
    run = asyncio.run

async def main():
    semaphore = asyncio.Semaphore(at_once)

    async def one(number):
        async with semaphore:
            await asyncio.sleep(nap_s)
        return number

    await asyncio.gather(*map(one, range(tasks)))

started = time.monotonic()
run(main())
took = time.monotonic() - started
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([tasks / took, (usage.ru_utime + usage.ru_stime) / tasks * 1e6, usage.ru_maxrss]))
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Tasks a second, the worker's CPU for a task in us, and its most memory in kB. 0 where not measured."""

    rate: float
    cpu_us: float = 0.0
    peak_kb: float = 0.0


def gather(nap_ms: float, at_once: int, tasks: int, loop: str) -> Found:
    """Measure the same coroutines in a process without MutiTask, on a loop of `asyncio` or `uvloop`."""
    command = [sys.executable, "-c", GATHER, str(tasks), str(at_once), str(nap_ms / 1000), loop]
    return Found(*json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


def mutitask(nap_ms: float, at_once: int, tasks: int) -> Found:
    """Measure one agent, from the command that resumes it until all tasks are done."""
    options = Options(
        "", "", tasks=tasks, nap_ms=nap_ms, concurrency=at_once, kind="asyncio", function="nap_async"
    )
    with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
        system = MutiTask(workspace, server)
        system.add_agents()
        system.start_feed()
        system.wait_until_fed()
        agent = system.agents[0].pid
        before, started = cpu_s(agent), system.resume_agents()
        took = system.wait_until_done(tasks) - started
        return Found(tasks / took, (cpu_s(agent) - before) / tasks * 1e6, peak_kb(agent))


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure each case in turn: gather, MutiTask, which uses uvloop, gather with uvloop, the peers with coroutines."""
    rows: list[dict[str, Any]] = []

    def add(system: str, nap_ms: float, at_once: int, found: Found) -> None:
        progress(
            f"  {system:20} {nap_ms:5g} ms, {at_once:6,} at once {found.rate:10,.0f}/s {found.cpu_us:7.1f} us "
            f"{found.peak_kb / 1024:6.0f} MB"
        )
        rows.append(
            {
                "system": system, "nap_ms": nap_ms, "at_once": at_once, "rate": found.rate, "cpu_us": found.cpu_us,
                "peak_kb": found.peak_kb,
            }
        )  # fmt: skip

    for number in range(min(2, plan.rounds)):
        progress(f"round {number + 1}: coroutines")
        for nap_ms, at_once, most in CASES:
            tasks = most // QUICK_SHARE if plan.quick else most
            add("gather", nap_ms, at_once, gather(nap_ms, at_once, tasks, "asyncio"))
            add("MutiTask", nap_ms, at_once, mutitask(nap_ms, at_once, tasks))
            add("gather, uvloop", nap_ms, at_once, gather(nap_ms, at_once, tasks, "uvloop"))
            for peer in plan.rotated(number):
                if peer.concurrency != "asyncio":
                    continue
                few = max(2 * at_once, min(tasks, int(peer.expected_rate * 2)))
                options = Options("", "", tasks=few, nap_ms=nap_ms, concurrency=at_once, function="nap")
                if drain := run_or_report(peer.label, drain_peer, peer, "off", options):
                    add(peer.label, nap_ms, at_once, Found(drain.drained_per_s))
    return rows
