"""Part 9: an agent's start to its first claim, its memory idle and after many tasks, and its CPU when idle.

Each beside a bare process that imports redis, msgpack, click and the job, connects and asks Redis for one thing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

from benchmarks.fleet import cpu_s
from benchmarks.footprint import resident_kb, settled_kb
from benchmarks.measure import place
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import HERE, Options, Stamps
from benchmarks.plan import Plan, say
from benchmarks.processes import Desk, desk

IDLE_S = 10.0
BARE = """
import sys, time
sys.path.insert(0, sys.argv[2])
import click, hiredis, msgpack, redis
import mutitask_job
client = redis.Redis.from_url(sys.argv[1])
client.lpop("nothing")
print(time.monotonic(), flush=True)
sys.stdin.read()
"""


def bare(url: str, here: Desk) -> tuple[subprocess.Popen[bytes], float]:
    """The bare process, and the seconds until it had its answer."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, url, str(HERE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **here.options.environment()},
    )  # fmt: skip
    assert process.stdout is not None
    answered = process.stdout.readline()
    return process, float(answered) - began


def starts(times: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of a process to its first task, an agent's and the bare one's, in turn."""
    agents, bares = [], []
    options = Options("", "", tasks=1, function="stamp")
    for _ in range(times):
        with place("off") as (server, url), desk(replace(options, url=url)) as here:
            system = MutiTask(here, server)
            system.start_agents()
            system.feed()
            system.fed()
            began = time.monotonic()
            system.agent(0)
            system.until_done(1)
            agents.append(Stamps(str(here.path)).at[0] - began)
            process, took = bare(url, here)
            process.kill()
            process.wait()
            bares.append(took)
    return agents, bares


def memory(tasks: int) -> dict[str, float]:
    """Resident kB of the bare process and of an agent, idle and after many tasks; its idle CPU."""
    options = Options("", "", tasks=tasks, capacity=10_000)
    with place("off") as (server, url), desk(replace(options, url=url)) as here:
        system = MutiTask(here, server)
        system.join()
        system.start_agents()
        agent = system.agents[0].pid
        idle = settled_kb(agent)
        process, _ = bare(url, here)
        plain = settled_kb(process.pid)
        process.kill()
        process.wait()
        before, began = cpu_s(agent), time.monotonic()
        time.sleep(IDLE_S)
        share = (cpu_s(agent) - before) / (time.monotonic() - began)
        system.feed()
        system.until(lambda: system.done() >= min(tasks, 20_000))
        early = resident_kb(agent)
        system.until_done(tasks, 300.0)
        late = settled_kb(agent)
    return {
        "bare_kb": plain,
        "idle_kb": idle,
        "early_kb": early,
        "late_kb": late,
        "idle_cpu": share,
        "tasks": tasks,
    }


def run(plan: Plan) -> list[dict[str, Any]]:
    """Start, then memory."""
    agents, bares = starts(3 if plan.quick else 10)
    later = (statistics.median(agents) - statistics.median(bares)) * 1000
    say(
        f"  first task {statistics.median(agents) * 1000:.0f} ms after its start, {later:.0f} ms later than bare"
    )
    found = memory(100_000 if plan.quick else 1_000_000)
    say(
        f"  idle {found['idle_kb'] / 1024:.1f} MB, {(found['idle_kb'] - found['bare_kb']) / 1024:.1f} MB above bare; "
        f"after 20,000 tasks {found['early_kb'] / 1024:.1f} MB, "
        f"after {found['tasks']:,} {found['late_kb'] / 1024:.1f} MB; idle CPU {found['idle_cpu']:.2%}"
    )
    return [{"starts": agents, "bare_starts": bares}, found]
