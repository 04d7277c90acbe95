"""Part 5, second half: 99 % tasks of 1 ms and 1 % of 2 s on 4 agents. How long do tasks wait and agents idle?"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.figures import percentile
from benchmarks.measure import redis_under_test
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.plan import Plan, progress
from benchmarks.processes import Workspace
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.settlements import unsettled_items

AGENTS = 4
POLL_S = 0.005
LONG = 50
"""The number of the long task (2 s) in each hundred tasks, as in `mutitask_job.py`."""

Spans = list[tuple[float, float]]
"""The start and the end of runs (monotonic, in seconds)."""


@dataclass(slots=True)
class ClaimSpan:
    """The time during which an agent held a claimed task."""

    holder: bytes
    """The actor id of the agent."""
    since: float
    """When the claim was first seen (monotonic, in seconds)."""
    until: float
    """When the claim was last seen."""


ClaimSpans = dict[int, list[ClaimSpan]]
"""The spans of each task, by task number."""


def watch_claims(system: MutiTask, tasks: int) -> ClaimSpans:
    """Poll the claims until all tasks are done."""
    claim_spans: ClaimSpans = defaultdict(list)
    before: dict[int, bytes] = {}
    client = system.client
    while system.done_count() < tasks:
        system.workspace.check_processes()
        holders: Any = client.hkeys(system.channel.claim_counts)
        now, present = time.monotonic(), {}
        for holder in holders:
            claims: Any = client.hgetall(system.channel.claims(holder.decode()))
            present.update({int(item[10:22]): holder for item in unsettled_items(claims)})
        for task, holder in present.items():
            if before.get(task) == holder:
                claim_spans[task][-1].until = now
            else:
                claim_spans[task].append(ClaimSpan(holder, now, now))
        before = present
        time.sleep(POLL_S)
    return claim_spans


def short_waits(claim_spans: ClaimSpans, started: dict[int, float]) -> list[ClaimSpan]:
    """Return how long each short task was claimed before it started or was handed back."""
    return [
        ClaimSpan(span.holder, span.since, max(span.since, min(span.until, started[task])))
        for task, spans in claim_spans.items()
        for span in spans
        if task % 100 != LONG and span.since < started[task]
    ]


def time_with_free_slot(runs: Spans, slots: int, since: float, until: float) -> float:
    """Return for how many seconds between `since` and `until` fewer than `slots` long tasks ran.

    While all slots of a device run long tasks, it cannot start a short one.
    """
    long = [(begin, end) for begin, end in runs if end - begin > 1.0 and begin < until and end > since]
    edges = sorted({since, until, *(edge for span in long for edge in span if since < edge < until)})
    return sum(
        after - before
        for before, after in itertools.pairwise(edges)
        if sum(begin <= before and after <= end for begin, end in long) < slots
    )


def idle(runs: dict[int, Spans], until: float) -> tuple[float, float]:
    """Return the longest idle time of an agent in seconds, and the idle share, until `until`.

    `until` is when the last task started, so there was always work before.
    """
    longest = idle_total = total = 0.0
    for spans in runs.values():
        spans.sort()
        first_start = busy_until = spans[0][0]
        for start, end in spans:
            if start > until:
                break
            longest = max(longest, start - busy_until)
            idle_total += max(0.0, start - busy_until)
            busy_until = max(busy_until, end)
        if busy_until < until:
            longest, idle_total = max(longest, until - busy_until), idle_total + until - busy_until
        total += until - first_start
    return longest, idle_total / total if total else 0.0


def measure(tasks: int, concurrency: int) -> dict[str, Any]:
    """Run the mix once with this many slots in each agent."""
    options = Options("", "", tasks=tasks, function="mixed", concurrency=concurrency)
    with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
        system = MutiTask(workspace, server)
        system.add_agents(AGENTS)
        system.start_feed()
        system.wait_until_fed()
        resumed = system.resume_agents()
        claim_spans = watch_claims(system, tasks)
        results: Any = system.client.lrange(system.channel.results, 0, -1)
        holders = {span.holder for spans in claim_spans.values() for span in spans}
        pids = {
            holder: int(system.client.hget(system.keys.actor(holder.decode()), "pid") or 0)
            for holder in holders
        }
    runs: dict[int, Spans] = defaultdict(list)
    started: dict[int, float] = {}
    for item in results:
        _, _, (task, pid, began, ended) = wire.unpack(item[list_item.HEADER_BYTES :])
        runs[pid].append((began, ended))
        started[task] = began
    gap, share = idle(runs, max(started.values())) if concurrency == 1 else (0.0, 0.0)
    spans = short_waits(claim_spans, started)
    behind = [span.until - span.since for span in spans]
    free = [time_with_free_slot(runs[pids[s.holder]], concurrency, s.since, s.until) for s in spans]
    took = max(end for spans in runs.values() for _, end in spans) - resumed
    work = sum(end - start for spans in runs.values() for start, end in spans)
    return {
        "concurrency": concurrency, "tasks": tasks, "took": took, "ideal": work / AGENTS / concurrency,
        "longest_idle": gap, "idle_share": share, "behind_p99": percentile(behind, 0.99), "behind_most": max(behind),
        "behind_free": max(free),
    }  # fmt: skip


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds, at most two."""
    rows = []
    for _ in range(min(2, plan.rounds)):
        for concurrency in (1, 4):
            found = measure(500 if plan.quick else 1000, concurrency)
            progress(
                f"  {concurrency} at once: {found['took']:.2f} s (work alone {found['ideal']:.2f} s), longest idle "
                f"{found['longest_idle']:.2f} s, share {found['idle_share']:.1%}, claimed and not started: "
                f"p99 {found['behind_p99']:.2f} s, most {found['behind_most']:.2f} s, "
                f"with a free slot {found['behind_free']:.2f} s"
            )
            rows.append(found)
    return rows
