"""`make bench`: MutiTask against the bare loop, in one run on one Valkey, in turn, several rounds.

Prints tasks a second as medians and the ratios; it fails on a broken run, never on a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import redis

from benchmarks import limit
from mutitask_tui import embedded
from mutitask_tui.server.core import ServerCore
from worker_agent.protocol.connect import connect
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import RunPlan

JOB = Path(__file__).with_name("noop_job.py")


def done(client: redis.Redis, keys: Keys) -> int:
    """How many tasks are done."""
    return int(client.hget(keys.channel(0).books, "done") or 0)  # type: ignore[arg-type]


def agent(url: str, name: str) -> subprocess.Popen[bytes]:
    """One worker agent, quiet."""
    command = [sys.executable, "-m", "worker_agent", str(JOB), "--name", name, "--device", "0"]
    environment = {**os.environ, "MUTITASK_REDIS_URL": url}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def whole_way(url: str, name: str, tasks: int, capacity: int, *, preload: bool) -> float:
    """Tasks a second from a generator to kept results with one server and one agent.

    With `preload` the channel is filled before the clock starts: draining alone.
    """
    client = connect(url)
    keys = Keys(name)
    plan = RunPlan(channels=1, devices=1, capacity=tasks if preload else capacity, autostart=not preload)
    core = ServerCore(url, name, plan, [iter(range(tasks))])
    core.open()
    worker = agent(url, name)
    try:
        while not client.hlen(keys.agents):
            time.sleep(0.01)
        began = time.perf_counter()
        core.start()
        if preload:
            while client.hget(keys.channel(0).books, "exhausted") != b"1":
                time.sleep(0.01)
            began = time.perf_counter()
            client.hset(keys.wish_devices, "default", "running")
            client.lpush(keys.device_token(0), "1")
        while (now := done(client, keys)) < tasks:
            if worker.poll() is not None or core.ended.is_set():
                raise SystemExit(f"broken run: {now} of {tasks} tasks, agent {worker.poll()}, {core.failure}")
            time.sleep(0.002)
        return tasks / (time.perf_counter() - began)
    finally:
        worker.terminate()
        worker.wait()
        core.stop()
        client.flushall()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--short", action="store_true", help="one round of 20,000 tasks")
    chosen = options.parse_args()
    tasks, rounds = (20_000, 1) if chosen.short else (chosen.tasks, chosen.rounds)
    figures: dict[str, list[float]] = {}
    with embedded.ensure("bench", throwaway=True) as own:
        for number in range(rounds):
            for batch in (50, 200, 1000):
                figures.setdefault(f"bare loop, batches of {batch}", []).append(
                    limit.drain(own.url, tasks, batch)
                )
            for label, capacity, preload in (
                ("preloaded no-ops, one agent", 0, True),
                ("generator to results, capacity 1,000", 1000, False),
                ("generator to results, capacity 50", 50, False),
            ):
                name = f"bench{number}{capacity}"
                rate = whole_way(own.url, name, tasks, capacity, preload=preload)
                figures.setdefault(label, []).append(rate)
    best = statistics.median(figures["bare loop, batches of 1000"])
    print(f"{tasks:,} tasks, {rounds} rounds, append-only file every second, {os.cpu_count()} cores\n")
    print(f"{'':40} {'tasks/s':>9} {'lowest':>9} {'highest':>9} {'of bare loop':>13}")
    for label, rates in figures.items():
        middle = statistics.median(rates)
        print(f"{label:40} {middle:9,.0f} {min(rates):9,.0f} {max(rates):9,.0f} {middle / best:13.2f}")


if __name__ == "__main__":
    main()
