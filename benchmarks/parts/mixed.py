"""Part 5, second half: 99 % tasks of 1 ms and 1 % of 2 s on 4 agents: who waits behind whom, and who stands idle."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.figures import percentile
from benchmarks.measure import place
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, say
from benchmarks.processes import desk
from worker_agent.protocol import wire
from worker_agent.protocol.settlements import held_in

AGENTS = 4
LOOK_S = 0.005
LONG = 50
"""Of a hundred tasks, the one that takes 2 s; as in `mutitask_job.py`."""


Spans = list[tuple[float, float]]


@dataclass(slots=True)
class Stay:
    """A task in an agent's hands: by whose actor, from when and until when it was seen there (monotonic)."""

    holder: bytes
    since: float
    until: float


Held = dict[int, list[Stay]]


def watch(system: MutiTask, tasks: int) -> Held:
    """Look at the claims until all are done."""
    held: Held = defaultdict(list)
    before: dict[int, bytes] = {}
    client = system.client
    while system.done() < tasks:
        system.desk.check()
        holders: Any = client.hkeys(system.channel.claim_counts)
        now, at_present = time.monotonic(), {}
        for holder in holders:
            claims: Any = client.hgetall(system.channel.claims(holder.decode()))
            at_present.update({int(item[10:22]): holder for item in held_in(claims)})
        for task, holder in at_present.items():
            if before.get(task) == holder:
                held[task][-1].until = now
            else:
                held[task].append(Stay(holder, now, now))
        before = at_present
        time.sleep(LOOK_S)
    return held


def waits(held: Held, begun: dict[int, float]) -> list[Stay]:
    """Each short task in an agent's hands until it began, or was handed back."""
    return [
        Stay(stay.holder, stay.since, max(stay.since, min(stay.until, begun[task])))
        for task, stays in held.items()
        for stay in stays
        if task % 100 != LONG and stay.since < begun[task]
    ]


def with_a_free_slot(runs: Spans, slots: int, since: float, until: float) -> float:
    """How long of that time fewer long tasks than `slots` ran: a device whose slots all run one has none to give."""
    long = [(begin, end) for begin, end in runs if end - begin > 1.0 and begin < until and end > since]
    edges = sorted({since, until, *(edge for span in long for edge in span if since < edge < until)})
    return sum(
        after - before
        for before, after in itertools.pairwise(edges)
        if sum(begin <= before and after <= end for begin, end in long) < slots
    )


def idle(runs: dict[int, Spans], until: float) -> tuple[float, float]:
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
        holders = {stay.holder for stays in held.values() for stay in stays}
        pids = {
            holder: int(system.client.hget(system.keys.actor(holder.decode()), "pid") or 0)
            for holder in holders
        }
    runs: dict[int, Spans] = defaultdict(list)
    begun: dict[int, float] = {}
    for item in results:
        _, _, (task, pid, began, ended) = wire.unpack(item[wire.HEADER_BYTES :])
        runs[pid].append((began, ended))
        begun[task] = began
    last_begun = max(begun.values())
    gap, share = idle(runs, last_begun) if concurrency == 1 else (0.0, 0.0)
    stays = waits(held, begun)
    behind = [stay.until - stay.since for stay in stays]
    free = [with_a_free_slot(runs[pids[s.holder]], concurrency, s.since, s.until) for s in stays]
    took = max(end for spans in runs.values() for _, end in spans) - started
    work = sum(end - start for spans in runs.values() for start, end in spans)
    return {
        "concurrency": concurrency, "tasks": tasks, "took": took, "ideal": work / AGENTS / concurrency,
        "longest_idle": gap, "idle_share": share, "behind_p99": percentile(behind, 0.99), "behind_most": max(behind),
        "behind_free": max(free),
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
                f"p99 {found['behind_p99']:.2f} s, most {found['behind_most']:.2f} s, "
                f"with a free slot {found['behind_free']:.2f} s"
            )
            rows.append(found)
    return rows
