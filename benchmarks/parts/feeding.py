"""Part 2: how fast tasks from a generator come into Redis, with nobody taking any."""

from __future__ import annotations

from typing import Any

from benchmarks import limit
from benchmarks.measure import place, tried
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.processes import desk
from benchmarks.systems import Peer

BATCHED, SINGLE = 20_000, 4_000
"""Tasks for peers with a batch call, and for the others."""


def of_peer(peer: Peer, tasks: int) -> tuple[float, float]:
    """Tasks a second, and us of Valkey's CPU for each."""
    with place("off") as (server, url), desk(Options(url, "", tasks=tasks)) as here:
        idle = server.cpu_s()
        took = float(here.told(peer, "feed")["seconds"])
        return tasks / took, (server.cpu_s() - idle) / tasks * 1e6


def of_mutitask(tasks: int) -> tuple[float, float]:
    """The same of MutiTask's server, whose channel has room for all of them."""
    with place("off") as (server, url), desk(Options(url, "", tasks=tasks)) as here:
        system = MutiTask(here, server)
        idle = server.cpu_s()
        system.feed()
        took = system.fed().seconds
        return tasks / took, (server.cpu_s() - idle) / tasks * 1e6


def of_bare(tasks: int) -> tuple[float, float]:
    """The same of a bare loop that packs and pushes 1,000 at once."""
    with place("off") as (server, url):
        idle = server.cpu_s()
        rate = limit.fill(url, tasks, 1000)
        return rate, (server.cpu_s() - idle) / tasks * 1e6


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds."""
    rows: list[dict[str, Any]] = []

    def note(system: str, tasks: int, found: tuple[float, float] | None) -> None:
        if found:
            say(f"  {system:20} {tasks:8,} {found[0]:10,.0f}/s {found[1]:7.2f} us")
            rows.append({"system": system, "tasks": tasks, "rate": found[0], "us": found[1]})

    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}: feeding")
        many = 2 * plan.many
        note("MutiTask", many, of_mutitask(many))
        note("bare loop", many, of_bare(many))
        for peer in plan.on_redis(number):
            tasks = BATCHED if peer.batch_feed else SINGLE
            note(peer.label, tasks, tried(peer.label, of_peer, peer, tasks))
    return rows
