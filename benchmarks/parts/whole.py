"""Part 3: the whole way at once, from a generator to kept results, with 1, 2, 4 and 8 agents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.measure import place
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.processes import desk


def whole_way(options: Options, agents: int, persistence: str = "off") -> tuple[float, float]:
    """Tasks a second from the first that is fed to the last result that is kept, and us of Valkey's CPU for each."""
    with place(persistence) as (server, url), desk(replace(options, url=url)) as here:
        system = MutiTask(here, server)
        system.join(agents)
        system.start_agents()
        idle = server.cpu_s()
        system.feed()
        ended = system.until_done(options.tasks)
        cpu = server.cpu_s() - idle
        return options.tasks / (ended - system.fed().began), cpu / options.tasks * 1e6


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds."""
    rows: list[dict[str, Any]] = []
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}: the whole way")
        for capacity, agents in ((1000, 1), (1000, 2), (1000, 4), (1000, 8), (50, 1)):
            tasks = plan.many if capacity > 50 else plan.many // 4
            rate, us = whole_way(Options("", "", tasks=tasks, capacity=capacity), agents)
            say(f"  capacity {capacity:5,} {agents} agents {rate:10,.0f}/s {us:6.2f} us")
            rows.append({"capacity": capacity, "agents": agents, "tasks": tasks, "rate": rate, "us": us})
    return rows
