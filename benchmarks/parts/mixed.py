"""Part 5, second half: 99 % tasks of 1 ms and 1 % of 2 s on 4 agents: who waits behind whom, and who stands idle."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

from benchmarks.fleet import percentile
from benchmarks.measure import place
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.processes import desk
from worker_agent.protocol import wire

AGENTS = 4
LOOK_S = 0.005
LONG = 50
"""Of a hundred tasks, the one that takes 2 s; as in `mutitask_job.py`."""


Held = dict[int, list[list[float]]]
"""For each task the times, from when and until when it was seen in an agent's hands (monotonic)."""


def watch(system: MutiTask, tasks: int) -> Held:
    """Look at the claims until all are done."""
    held: Held = defaultdict(list)
    before: dict[int, bytes] = {}
    client = system.client
    while system.done() < tasks:
        system.desk.check()
        holders: Any = client.hkeys(system.channel.holders)
        now, at_present = time.monotonic(), {}
        for holder in holders:
            ids: Any = client.hkeys(system.channel.claims(holder.decode()))
            at_present.update({int(id_[8:20]): holder for id_ in ids})
        for task, holder in at_present.items():
            if before.get(task) == holder:
                held[task][-1][1] = now
            else:
                held[task].append([now, now])
        before = at_present
        time.sleep(LOOK_S)
    return held


def waited(held: Held, begun: dict[int, float]) -> list[float]:
    """How long each short task had been in an agent's hands when it began, or when it was handed back."""
    return [
        max(0.0, min(until, begun[task]) - since)
        for task, times in held.items()
        for since, until in times
        if task % 100 != LONG and since < begun[task]
    ]


def idle(runs: dict[int, list[tuple[float, float]]], until: float) -> tuple[float, float]:
    """While tasks waited or were not begun (until the last began): the longest gap of a device and the idle share."""
    longest = total = whole = 0.0
    for spans in runs.values():
        spans.sort()
        began = busy_until = spans[0][0]
        for start, end in spans:
            if start > until:
                break
            longest = max(longest, start - busy_until)
            total += max(0.0, start - busy_until)
            busy_until = max(busy_until, end)
        if busy_until < until:
            longest, total = max(longest, until - busy_until), total + until - busy_until
        whole += until - began
    return longest, total / whole if whole else 0.0


def mix(tasks: int, concurrency: int) -> dict[str, Any]:
    """One run of the mix."""
    options = Options("", "", tasks=tasks, function="mixed", concurrency=concurrency)
    with place("off") as (server, url), desk(replace(options, url=url)) as here:
        system = MutiTask(here, server)
        system.join(AGENTS)
        system.feed()
        system.fed()
        started = system.start_agents()
        held = watch(system, tasks)
        results: Any = system.client.lrange(system.channel.results, 0, -1)
    runs: dict[int, list[tuple[float, float]]] = defaultdict(list)
    begun: dict[int, float] = {}
    for item in results:
        _, _, (task, pid, began, ended) = wire.unpack(item[wire.HEADER_BYTES :])
        runs[pid].append((began, ended))
        begun[task] = began
    last_begun = max(begun.values())
    gap, share = idle(runs, last_begun) if concurrency == 1 else (0.0, 0.0)
    behind = waited(held, begun)
    took = max(end for spans in runs.values() for _, end in spans) - started
    work = sum(end - start for spans in runs.values() for start, end in spans)
    return {
        "concurrency": concurrency, "tasks": tasks, "took": took, "ideal": work / AGENTS / concurrency,
        "longest_idle": gap, "idle_share": share, "behind_p99": percentile(behind, 0.99), "behind_most": max(behind),
    }  # fmt: skip


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds, at most two."""
    rows = []
    for _ in range(min(2, plan.rounds)):
        for concurrency in (1, 4):
            found = mix(500 if plan.quick else 1000, concurrency)
            say(
                f"  {concurrency} at once: {found['took']:.2f} s (work alone {found['ideal']:.2f} s), longest idle "
                f"{found['longest_idle']:.2f} s, share {found['idle_share']:.1%}, claimed and not begun: "
                f"p99 {found['behind_p99']:.2f} s, most {found['behind_most']:.2f} s"
            )
            rows.append(found)
    return rows
