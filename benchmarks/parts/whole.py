"""Part 3: from a generator to results in Redis, with 1, 2, 4 and 8 agents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.measure import redis_under_test
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.processes import Workspace


def whole_way(options: Options, agents: int, persistence: str = "off") -> tuple[float, float]:
    """Return the tasks per second from the first fed task to the last result, and Valkey's CPU per task in us."""
    with redis_under_test(persistence) as (server, url), Workspace(replace(options, url=url)) as workspace:
        system = MutiTask(workspace, server)
        system.add_agents(agents)
        system.resume_agents()
        idle_cpu = server.cpu_s()
        system.start_feed()
        ended = system.wait_until_done(options.tasks)
        cpu = server.cpu_s() - idle_cpu
        return options.tasks / (ended - system.wait_until_fed().started), cpu / options.tasks * 1e6


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds."""
    rows: list[dict[str, Any]] = []
    for number in range(plan.rounds):
        progress(f"round {number + 1} of {plan.rounds}: the whole way")
        for capacity, agents in ((1000, 1), (1000, 2), (1000, 4), (1000, 8), (50, 1)):
            tasks = plan.many if capacity > 50 else plan.many // 4
            rate, us = whole_way(Options("", "", tasks=tasks, capacity=capacity), agents)
            progress(f"  capacity {capacity:5,} {agents} agents {rate:10,.0f}/s {us:6.2f} us")
            rows.append({"capacity": capacity, "agents": agents, "tasks": tasks, "rate": rate, "us": us})
    return rows
