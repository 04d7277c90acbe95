"""Part 2: how fast tasks from a generator get into Redis while no worker takes any."""

from __future__ import annotations

from typing import Any

from benchmarks import limit
from benchmarks.measure import redis_under_test, run_or_report
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.processes import Workspace
from benchmarks.systems import Peer

BATCH_TASKS = 20_000
"""How many tasks a peer with a batch call feeds."""
SINGLE_TASKS = 4_000
"""How many tasks the other peers feed."""


def feed_peer(peer: Peer, tasks: int) -> tuple[float, float]:
    """Return a peer's tasks per second, and Valkey's CPU per task in us."""
    with redis_under_test("off") as (server, url), Workspace(Options(url, "", tasks=tasks)) as workspace:
        idle_cpu = server.cpu_s()
        took = float(workspace.run_peer(peer, "feed")["seconds"])
        return tasks / took, (server.cpu_s() - idle_cpu) / tasks * 1e6


def feed_mutitask(tasks: int) -> tuple[float, float]:
    """Return the same figures of MutiTask's server. The capacity of its channel is the number of tasks."""
    with redis_under_test("off") as (server, url), Workspace(Options(url, "", tasks=tasks)) as workspace:
        system = MutiTask(workspace, server)
        idle_cpu = server.cpu_s()
        system.start_feed()
        took = system.wait_until_fed().seconds
        return tasks / took, (server.cpu_s() - idle_cpu) / tasks * 1e6


def feed_bare(tasks: int) -> tuple[float, float]:
    """Return the same figures of a bare loop that packs and pushes 1,000 tasks at once."""
    with redis_under_test("off") as (server, url):
        idle_cpu = server.cpu_s()
        rate = limit.fill(url, tasks, 1000)
        return rate, (server.cpu_s() - idle_cpu) / tasks * 1e6


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds."""
    rows: list[dict[str, Any]] = []

    def add(system: str, tasks: int, figures: tuple[float, float] | None) -> None:
        if figures:
            rate, us = figures
            progress(f"  {system:20} {tasks:8,} {rate:10,.0f}/s {us:7.2f} us")
            rows.append({"system": system, "tasks": tasks, "rate": rate, "us": us})

    for number in range(plan.rounds):
        progress(f"round {number + 1} of {plan.rounds}: feeding")
        many = 2 * plan.many
        add("MutiTask", many, feed_mutitask(many))
        add("bare loop", many, feed_bare(many))
        for peer in plan.redis_peers(number):
            tasks = BATCH_TASKS if peer.batch_feed else SINGLE_TASKS
            add(peer.label, tasks, run_or_report(peer.label, feed_peer, peer, tasks))
    return rows
