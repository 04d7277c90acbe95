"""Part 1: no-ops that wait in Redis, worked off by one worker process."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Drain, drain_bare, drain_mutitask, drain_peer, plain_loop, tried
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.systems import FASTER, Peer

FAST = 5_000
"""Peers that do so many a second are given the large backlog too."""
SLOW_BATCH = 5_000
"""How many no-ops are enough at a batch of 1."""


def row(
    system: str, batch: str, persistence: str, results: bool, delay_ms: float, found: Drain
) -> dict[str, Any]:
    """One figure, and what it was taken under."""
    text = f"{system}{f', batch {batch}' if batch else ''}"
    kept = "results" if results else "no results"
    say(
        f"  {text:34} {persistence:9} {kept:11} {delay_ms:g} ms {found.tasks:9,} "
        f"{found.drained_per_s:10,.0f}/s {found.drain_us:7.2f} us"
    )
    return {
        "system": system, "batch": batch, "persistence": persistence, "results": results, "delay_ms": delay_ms,
        **found.told(),
    }  # fmt: skip


def ours(plan: Plan, persistence: str, results: bool, delay_ms: float = 0.0) -> list[dict[str, Any]]:
    """MutiTask at each batch, and the bare loop at the same."""
    rows = []
    for batch, label in ((1, "1"), (16, "16"), (100, "100"), (0, "adaptive")):
        tasks = SLOW_BATCH if batch == 1 else plan.tasks
        if delay_ms and batch == 1:
            tasks //= 10
        options = Options("", "", tasks=tasks, results=results, batch=batch)
        found = drain_mutitask(persistence, options, delay_ms)
        rows.append(row("MutiTask", label, persistence, results, delay_ms, found))
        if results:
            bare = drain_bare(persistence, tasks, batch or 1000, delay_ms)
            rows.append(row("bare loop", str(batch or 1000), persistence, True, delay_ms, bare))
    return rows


def theirs(
    peers: list[Peer], plan: Plan, persistence: str, results: bool, delay_ms: float, seconds: float
) -> list[dict[str, Any]]:
    """The peers in turn."""
    rows = []
    for peer in peers:
        if not results and not peer.results_off:
            continue
        if not peer.redis and (persistence != "off" or delay_ms or not results):
            continue
        options = Options("", "", tasks=plan.count(peer, seconds), results=results, concurrency=peer.at_once)
        found = tried(peer.label, drain_peer, peer, persistence, options, delay_ms)
        if found:
            rows.append(row(peer.label, "", persistence, results, delay_ms, found))
    return rows


def large(plan: Plan, number: int) -> list[dict[str, Any]]:
    """The large backlog, for those who finish it within seconds."""
    options = Options("", "", tasks=plan.many)
    rows = [
        row("MutiTask", "adaptive", "off", True, 0.0, drain_mutitask("off", options)),
        row("bare loop", "1000", "off", True, 0.0, drain_bare("off", plan.many, 1000)),
    ]
    for peer in plan.peers:
        if number == 0 and peer.about >= FAST:
            found = tried(peer.label, drain_peer, peer, "off", options)
            if found:
                rows.append(row(peer.label, "", "off", True, 0.0, found))
    return rows


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds. Under other conditions than the first, peers are measured in the first round alone."""
    rows: list[dict[str, Any]] = []
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}: no-ops")
        turn = plan.turn(number)
        rows += ours(plan, "off", True)
        rows += theirs(turn, plan, "off", True, 0.0, plan.seconds)
        faster = [peer for peer in FASTER if peer.name in {here.name for here in turn}]
        rows += theirs(faster, plan, "off", True, 0.0, plan.seconds)
        rows += large(plan, number)
        rows += ours(plan, "off", False)
        for persistence in ("everysec", "always"):
            rows += ours(plan, persistence, True)
        rows += ours(plan, "off", True, 1.0)
        if number == 0:
            seconds = plan.seconds / 2
            rows += theirs(turn, plan, "off", False, 0.0, seconds)
            for persistence in ("everysec", "always"):
                rows += theirs(turn, plan, persistence, True, 0.0, seconds)
            rows += theirs(turn, plan, "off", True, 1.0, seconds)
    rows.append({"system": "plain loop", "rate": plain_loop(1_000_000)})
    return rows
