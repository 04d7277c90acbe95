"""Part 9: the time from an agent's start to its first task, its memory and its idle CPU.

Each is compared with a bare process that imports redis, msgpack, click and the job, connects and sends one command.
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
from benchmarks.measure import redis_under_test
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import HERE, Options, Stamps
from benchmarks.plan import Plan, progress
from benchmarks.processes import Workspace

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


def start_bare(url: str, workspace: Workspace) -> tuple[subprocess.Popen[bytes], float]:
    """Start the bare process. Return it and the seconds until it had its answer."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, url, str(HERE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **workspace.options.environment()},
    )  # fmt: skip
    assert process.stdout is not None
    answered = process.stdout.readline()
    return process, float(answered) - started


def starts(times: int) -> tuple[list[float], list[float]]:
    """Return the seconds from the start to the first task of agents, and to the answer of bare processes, in turn."""
    agent_s, bare_s = [], []
    options = Options("", "", tasks=1, function="stamp")
    for _ in range(times):
        with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
            system = MutiTask(workspace, server)
            system.resume_agents()
            system.start_feed()
            system.wait_until_fed()
            started = time.monotonic()
            system.start_agent(0)
            system.wait_until_done(1)
            agent_s.append(Stamps(str(workspace.path)).at[0] - started)
            process, took = start_bare(url, workspace)
            process.kill()
            process.wait()
            bare_s.append(took)
    return agent_s, bare_s


def memory(tasks: int) -> dict[str, float]:
    """Return the resident kB of the bare process and of an agent, idle and after many tasks, and its idle CPU."""
    options = Options("", "", tasks=tasks, capacity=10_000)
    with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
        system = MutiTask(workspace, server)
        system.add_agents()
        system.resume_agents()
        agent = system.agents[0].pid
        idle = settled_kb(agent)
        process, _ = start_bare(url, workspace)
        bare = settled_kb(process.pid)
        process.kill()
        process.wait()
        before, started = cpu_s(agent), time.monotonic()
        time.sleep(IDLE_S)
        share = (cpu_s(agent) - before) / (time.monotonic() - started)
        system.start_feed()
        system.wait_until(lambda: system.done_count() >= min(tasks, 20_000))
        early = resident_kb(agent)
        system.wait_until_done(tasks, 300.0)
        late = settled_kb(agent)
    return {
        "bare_kb": bare,
        "idle_kb": idle,
        "early_kb": early,
        "late_kb": late,
        "idle_cpu": share,
        "tasks": tasks,
    }


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure the start, then the memory."""
    agent_s, bare_s = starts(3 if plan.quick else 10)
    later = (statistics.median(agent_s) - statistics.median(bare_s)) * 1000
    progress(
        f"  first task {statistics.median(agent_s) * 1000:.0f} ms after the start, {later:.0f} ms later than bare"
    )
    found = memory(100_000 if plan.quick else 1_000_000)
    progress(
        f"  idle {found['idle_kb'] / 1024:.1f} MB, {(found['idle_kb'] - found['bare_kb']) / 1024:.1f} MB above bare; "
        f"after 20,000 tasks {found['early_kb'] / 1024:.1f} MB, "
        f"after {found['tasks']:,} {found['late_kb'] / 1024:.1f} MB; idle CPU {found['idle_cpu']:.2%}"
    )
    return [{"starts": agent_s, "bare_starts": bare_s}, found]
