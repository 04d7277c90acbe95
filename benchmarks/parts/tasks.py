"""Part 5: tasks of 1 ms and 100 ms, 32 at once in one worker, compared with the functions alone."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

from benchmarks.measure import drain_mutitask, drain_peer, run_or_report
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.systems import Peer

CONCURRENCY = 32


def threads_alone(tasks: int, nap_s: float) -> float:
    """Return the calls per second of the function in 32 threads that take the tasks from a deque."""
    queue = deque(range(tasks))

    def work() -> None:
        while True:
            try:
                queue.popleft()
            except IndexError:
                return
            time.sleep(nap_s)

    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tasks / (time.monotonic() - started)


def loop_alone(tasks: int, nap_s: float) -> float:
    """Return the same rate with 32 coroutines of one event loop."""

    async def main() -> None:
        queue = deque(range(tasks))

        async def work() -> None:
            while queue:
                queue.popleft()
                await asyncio.sleep(nap_s)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    started = time.monotonic()
    asyncio.run(main())
    return tasks / (time.monotonic() - started)


def _sleep_repeatedly(barrier: Any, count: int, nap_s: float) -> None:
    barrier.wait()
    for _ in range(count):
        time.sleep(nap_s)


def processes_alone(tasks: int, nap_s: float) -> float:
    """Return the same rate with 32 processes that share the tasks. The clock starts when all processes have started."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(CONCURRENCY + 1)
    processes = [
        context.Process(target=_sleep_repeatedly, args=(barrier, tasks // CONCURRENCY, nap_s))
        for _ in range(CONCURRENCY)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.monotonic()
    for process in processes:
        process.join()
    return tasks // CONCURRENCY * CONCURRENCY / (time.monotonic() - started)


ALONE = {"threads": threads_alone, "asyncio": loop_alone, "processes": processes_alone}
MUTITASK_OPTIONS = {
    "threads": ("thread", "nap"),
    "asyncio": ("asyncio", "nap_async"),
    "processes": ("process", "nap"),
}


def counts(nap_ms: float, plan: Plan, peer: Peer | None) -> int:
    """Return how many tasks take a few seconds. `peer` is None for MutiTask."""
    ideal = CONCURRENCY / nap_ms * 1000
    seconds = 1.0 if plan.quick else 2.5
    rate = ideal if peer is None else min(ideal, peer.expected_rate)
    return max(CONCURRENCY * 4, int(rate * seconds) // CONCURRENCY * CONCURRENCY)


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds, at most two."""
    rows: list[dict[str, Any]] = []

    def add(system: str, pool: str, nap_ms: float, rate: float, alone: float) -> None:
        share = rate / alone
        progress(f"  {system:20} {pool:10} {nap_ms:5g} ms {rate:10,.0f}/s of {alone:8,.0f}/s {share:6.1%}")
        rows.append({"system": system, "pool": pool, "nap_ms": nap_ms, "rate": rate, "alone": alone})

    for number in range(min(2, plan.rounds)):
        for nap_ms in (1.0, 100.0):
            progress(f"round {number + 1}: {nap_ms:g} ms tasks, {CONCURRENCY} at once")
            tasks = counts(nap_ms, plan, None)
            alone = {pool: measure(tasks, nap_ms / 1000) for pool, measure in ALONE.items()}
            base = Options("", "", tasks=tasks, nap_ms=nap_ms, concurrency=CONCURRENCY)
            for pool, (kind, function) in MUTITASK_OPTIONS.items():
                options = replace(base, kind=kind, function=function)
                # Child processes start with the first tasks. Their start does not count.
                warm_up = tasks if kind == "process" else 0
                options = replace(options, tasks=tasks + warm_up)
                found = run_or_report(f"MutiTask, {pool}", drain_mutitask, "off", options, warm_up=warm_up)
                if found:
                    add("MutiTask", pool, nap_ms, found.drained_per_s, alone[pool])
            for peer in plan.rotated(number):
                if not peer.concurrency:
                    continue
                options = replace(base, tasks=counts(nap_ms, plan, peer), function="nap")
                found = run_or_report(peer.label, drain_peer, peer, "off", options)
                if found:
                    add(peer.label, peer.concurrency, nap_ms, found.drained_per_s, alone[peer.concurrency])
    return rows
