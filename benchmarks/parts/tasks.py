"""Part 5: tasks of 1 ms and 100 ms, 32 at once in one worker, as a share of what the functions alone reach."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

from benchmarks.measure import drain_mutitask, drain_peer, tried
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.systems import Peer

AT_ONCE = 32


def threads_alone(tasks: int, nap_s: float) -> float:
    """Calls a second of the function in as many threads, which take the tasks from a deque."""
    queue = deque(range(tasks))

    def work() -> None:
        while True:
            try:
                queue.popleft()
            except IndexError:
                return
            time.sleep(nap_s)

    crew = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    began = time.monotonic()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return tasks / (time.monotonic() - began)


def loop_alone(tasks: int, nap_s: float) -> float:
    """The same in as many coroutines of one event loop."""

    async def main() -> None:
        queue = deque(range(tasks))

        async def work() -> None:
            while queue:
                queue.popleft()
                await asyncio.sleep(nap_s)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    began = time.monotonic()
    asyncio.run(main())
    return tasks / (time.monotonic() - began)


def _naps(barrier: Any, count: int, nap_s: float) -> None:
    barrier.wait()
    for _ in range(count):
        time.sleep(nap_s)


def processes_alone(tasks: int, nap_s: float) -> float:
    """The same in as many processes, each with its share of the tasks; from when all are there."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(AT_ONCE + 1)
    crew = [context.Process(target=_naps, args=(barrier, tasks // AT_ONCE, nap_s)) for _ in range(AT_ONCE)]
    for process in crew:
        process.start()
    barrier.wait()
    began = time.monotonic()
    for process in crew:
        process.join()
    return tasks // AT_ONCE * AT_ONCE / (time.monotonic() - began)


ALONE = {"threads": threads_alone, "asyncio": loop_alone, "processes": processes_alone}
OURS = {"threads": ("thread", "nap"), "asyncio": ("thread", "nap_async"), "processes": ("process", "nap")}


def counts(nap_ms: float, plan: Plan, peer: Peer | None) -> int:
    """How many tasks last a few seconds."""
    ideal = AT_ONCE / nap_ms * 1000
    seconds = 1.0 if plan.quick else 2.5
    rate = ideal if peer is None else min(ideal, peer.about)
    return max(AT_ONCE * 4, int(rate * seconds) // AT_ONCE * AT_ONCE)


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds, at most two."""
    rows: list[dict[str, Any]] = []

    def note(system: str, way: str, nap_ms: float, rate: float, alone: float) -> None:
        share = rate / alone
        say(f"  {system:20} {way:10} {nap_ms:5g} ms {rate:10,.0f}/s of {alone:8,.0f}/s {share:6.1%}")
        rows.append({"system": system, "way": way, "nap_ms": nap_ms, "rate": rate, "alone": alone})

    for number in range(min(2, plan.rounds)):
        for nap_ms in (1.0, 100.0):
            say(f"round {number + 1}: {nap_ms:g} ms tasks, {AT_ONCE} at once")
            tasks = counts(nap_ms, plan, None)
            alone = {way: measure(tasks, nap_ms / 1000) for way, measure in ALONE.items()}
            base = Options("", "", tasks=tasks, nap_ms=nap_ms, concurrency=AT_ONCE)
            for way, (kind, function) in OURS.items():
                asked = replace(base, kind=kind, function=function)
                # Children start with the first tasks, and a start is not what is measured.
                warm_up = tasks if kind == "process" else 0
                asked = replace(asked, tasks=tasks + warm_up)
                found = tried(f"MutiTask, {way}", drain_mutitask, "off", asked, warm_up=warm_up)
                if found:
                    note("MutiTask", way, nap_ms, found.drained_per_s, alone[way])
            for peer in plan.turn(number):
                if not peer.many:
                    continue
                asked = replace(base, tasks=counts(nap_ms, plan, peer), function="nap")
                found = tried(peer.label, drain_peer, peer, "off", asked)
                if found:
                    note(peer.label, peer.many, nap_ms, found.drained_per_s, alone[peer.many])
    return rows
