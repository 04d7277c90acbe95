"""Part 1: one worker process drains no-ops that wait in Redis."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Drain, drain_bare, drain_mutitask, drain_peer, plain_loop, run_or_report
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.systems import OTHER_SETTINGS, Peer

FAST_RATE = 5_000
"""Peers with at least this many no-ops per second also drain the large backlog."""
SINGLE_TASKS = 5_000
"""The size of the backlog at a batch of 1."""


def row(
    system: str, batch: str, persistence: str, results: bool, delay_ms: float, drain: Drain
) -> dict[str, Any]:
    """Print a measurement. Return its figures with the conditions."""
    label = f"{system}{f', batch {batch}' if batch else ''}"
    saved = "results" if results else "no results"
    progress(
        f"  {label:34} {persistence:9} {saved:11} {delay_ms:g} ms {drain.tasks:9,} "
        f"{drain.drained_per_s:10,.0f}/s {drain.drain_us:7.2f} us"
    )
    return {
        "system": system, "batch": batch, "persistence": persistence, "results": results, "delay_ms": delay_ms,
        **drain.as_dict(),
    }  # fmt: skip


def mutitask_and_bare(
    plan: Plan, persistence: str, results: bool, delay_ms: float = 0.0
) -> list[dict[str, Any]]:
    """Measure MutiTask with each size of batch, and the bare loop with the same sizes."""
    rows = []
    for batch, label in ((1, "1"), (16, "16"), (100, "100"), (0, "adaptive")):
        tasks = SINGLE_TASKS if batch == 1 else plan.tasks
        if delay_ms and batch == 1:
            tasks //= 10
        options = Options("", "", tasks=tasks, results=results, batch=batch)
        found = drain_mutitask(persistence, options, delay_ms)
        rows.append(row("MutiTask", label, persistence, results, delay_ms, found))
        if results:
            bare = drain_bare(persistence, tasks, batch or 1000, delay_ms)
            rows.append(row("bare loop", str(batch or 1000), persistence, True, delay_ms, bare))
    return rows


def peers(
    turn: list[Peer], plan: Plan, persistence: str, results: bool, delay_ms: float, seconds: float
) -> list[dict[str, Any]]:
    """Measure the peers in this order."""
    rows = []
    for peer in turn:
        if not results and not peer.results_off:
            continue
        if not peer.redis and (persistence != "off" or delay_ms or not results):
            continue
        options = Options(
            "", "", tasks=plan.count(peer, seconds), results=results, concurrency=peer.noop_concurrency
        )
        found = run_or_report(peer.label, drain_peer, peer, persistence, options, delay_ms)
        if found:
            rows.append(row(peer.label, "", persistence, results, delay_ms, found))
    return rows


def large(plan: Plan, number: int) -> list[dict[str, Any]]:
    """Measure the large backlog with the systems that drain it within seconds."""
    options = Options("", "", tasks=plan.many)
    rows = [
        row("MutiTask", "adaptive", "off", True, 0.0, drain_mutitask("off", options)),
        row("bare loop", "1000", "off", True, 0.0, drain_bare("off", plan.many, 1000)),
    ]
    for peer in plan.peers:
        if number == 0 and peer.expected_rate >= FAST_RATE:
            found = run_or_report(peer.label, drain_peer, peer, "off", options)
            if found:
                rows.append(row(peer.label, "", "off", True, 0.0, found))
    return rows


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds. The first round also measures the peers under the other conditions."""
    rows: list[dict[str, Any]] = []
    for number in range(plan.rounds):
        progress(f"round {number + 1} of {plan.rounds}: no-ops")
        turn = plan.rotated(number)
        rows += mutitask_and_bare(plan, "off", True)
        rows += peers(turn, plan, "off", True, 0.0, plan.seconds)
        others = [peer for peer in OTHER_SETTINGS if peer.name in {other.name for other in turn}]
        rows += peers(others, plan, "off", True, 0.0, plan.seconds)
        rows += large(plan, number)
        rows += mutitask_and_bare(plan, "off", False)
        for persistence in ("everysec", "always"):
            rows += mutitask_and_bare(plan, persistence, True)
        rows += mutitask_and_bare(plan, "off", True, 1.0)
        if number == 0:
            seconds = plan.seconds / 2
            rows += peers(turn, plan, "off", False, 0.0, seconds)
            for persistence in ("everysec", "always"):
                rows += peers(turn, plan, persistence, True, 0.0, seconds)
            rows += peers(turn, plan, "off", True, 1.0, seconds)
    rows.append({"system": "plain loop", "rate": plain_loop(1_000_000)})
    return rows
