"""Compares process mode with a `ProcessPoolExecutor` that is fed with chunks of the same size, for tasks of 1 ms.

    python -m benchmarks.process_pool [--rounds 3] [--seconds 2] [--processes 2]

Both run the same functions in the same number of processes, one after the other in each round: `nap` sleeps 1 ms, and
`spin` adds numbers for about 1 ms. It prints tasks a second, and their median ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from benchmarks.measure import drain_mutitask
from benchmarks.peers.kit import Options, add_up
from benchmarks.plan import progress

CHUNK = 5
"""Tasks in a chunk: process mode gives its children about 5 ms of work at a time."""


def nap(task: int) -> int:
    """Sleep 1 ms, then return the task."""
    time.sleep(0.001)
    return task


def spin(additions: int, task: int) -> int:
    """Add numbers, then return the task."""
    add_up(additions)
    return task


def additions_in_1_ms() -> int:
    """Return how many additions take 1 ms in a process that has its core for itself."""
    count, best = 10_000, float("inf")
    for _ in range(200):
        started = time.perf_counter()
        add_up(count)
        best = min(best, time.perf_counter() - started)
    return int(count * 0.001 / best)


def pool_rate(function: Callable[[int], Any], tasks: int, processes: int) -> float:
    """Return the tasks per second of a pool of processes that have started."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(function, range(100), chunksize=CHUNK))
        started = time.monotonic()
        for _ in pool.map(function, range(tasks), chunksize=CHUNK):
            pass
        return tasks / (time.monotonic() - started)


def mutitask_rate(function: str, additions: int, tasks: int, processes: int) -> float:
    """Return the tasks per second of one agent in process mode, once its children have started."""
    warm_up = 500
    options = Options(
        "", "", tasks=tasks + warm_up, function=function, nap_ms=1.0, additions=additions,
        concurrency=processes, kind="process",
    )  # fmt: skip
    return drain_mutitask("off", options, warm_up=warm_up).drained_per_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long one measurement takes")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tasks = int(options.seconds * 1000 * options.processes)
    additions = additions_in_1_ms()
    functions: dict[str, Callable[[int], Any]] = {"nap": nap, "spin": partial(spin, additions)}
    ratios: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(options.rounds):
        for name, function in functions.items():
            pool = pool_rate(function, tasks, options.processes)
            ours = mutitask_rate(name, additions, tasks, options.processes)
            ratios[name].append(ours / pool)
            progress(
                f"round {number + 1} {name:5} pool {pool:8,.0f}/s  MutiTask {ours:8,.0f}/s  {ours / pool:6.1%}"
            )
    for name, found in ratios.items():
        progress(f"{name:5} median {statistics.median(found):6.1%} of the pool's rate")


if __name__ == "__main__":
    main()
