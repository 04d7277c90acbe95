"""Part 4: latency at light load, from the yield of a task to its start and to its readable result.

A task records when it starts. One observer, the same for all systems, asks Redis every millisecond which results
are there. It reads what the client of the system would read.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis

from benchmarks.figures import percentile
from benchmarks.measure import redis_under_test, run_or_report
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options, Stamps
from benchmarks.plan import Plan, progress
from benchmarks.processes import BrokenRun, Workspace
from benchmarks.systems import Peer

RATE = 100.0
WARM_UP = 100
"""How many tasks are not counted at the start: one second of them."""
POLL_S = 0.001

Sent = tuple[int, float, list[str]]
"""The index of a task, when it was yielded (monotonic, in seconds), and the command that tests for its result."""


class Sender:
    """Reads the lines of an adapter about the tasks that it has sent."""

    def __init__(self, process: Any) -> None:
        self.sent: deque[Sent] = deque()
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.startswith(b"["):
                index, yielded, command = json.loads(line)
                self.sent.append((index, yielded, command))


Times = dict[int, tuple[float, float]]
"""When each task was yielded and when its result was readable, by index (monotonic, in seconds)."""


def poll_results(client: redis.Redis, sender: Sender, count: int, workspace: Workspace) -> Times:
    """Wait for the results of `count` tasks of a peer."""
    times: Times = {}
    waiting: list[Sent] = []
    until = time.monotonic() + count / RATE + 30
    while len(times) < count:
        while sender.sent:
            waiting.append(sender.sent.popleft())
        reported = [task for task in waiting if task[2][0] == "READ-AT"]
        times.update({index: (yielded, float(command[1])) for index, yielded, command in reported})
        polled = [task for task in waiting if task[2][0] != "READ-AT"]
        answers: list[Any] = []
        if polled:
            with client.pipeline(transaction=False) as pipe:
                for _, _, command in polled:
                    is_removal = command[0] == "ZSCORE-GONE"
                    pipe.execute_command("ZSCORE" if is_removal else command[0], *command[1:])
                answers = pipe.execute()
        now = time.monotonic()
        waiting = []
        for task, answer in zip(polled, answers, strict=True):
            if (answer is None) if task[2][0] == "ZSCORE-GONE" else answer:
                times[task[0]] = task[1], now
            else:
                waiting.append(task)
        if now > until:
            raise BrokenRun(f"only {len(times)} of {count} results arrived: {workspace.log_tail()}")
        time.sleep(POLL_S)
    return times


def poll_mutitask_results(system: MutiTask, sender: Sender, count: int) -> Times:
    """Wait for the results of `count` tasks in MutiTask's result channel. Their headers hold the task numbers."""
    seen: dict[int, float] = {}
    until = time.monotonic() + count / RATE + 30
    while len(seen) < count:
        items: Any = system.client.lrange(system.channel.results, len(seen), -1)
        now = time.monotonic()
        for item in items:
            seen[int(item[10:22])] = now
        if now > until:
            raise BrokenRun(
                f"MutiTask: only {len(seen)} of {count} results arrived: {system.workspace.log_tail()}"
            )
        time.sleep(POLL_S)
    yielded = {index: at for index, at, _ in sender.sent}
    return {index: (yielded[index], at) for index, at in seen.items()}


def waits(name: str, workspace: Workspace, times: Times) -> dict[str, Any]:
    """Return the waits until the start and until the result, in ms, without the warm-up."""
    stamps = Stamps(str(workspace.path)).at
    counted = [index for index in times if index >= WARM_UP]
    started = [(stamps[index] - times[index][0]) * 1000 for index in counted]
    read = [(times[index][1] - times[index][0]) * 1000 for index in counted]
    if min(started) < 0:
        raise BrokenRun(f"{name}: a task started before it was yielded")
    progress(
        f"  {name:20} "
        + "  ".join(
            f"{label} {percentiles_text(values)}" for label, values in (("started", started), ("read", read))
        )
    )
    return {"system": name, "started": started, "read": read}


def percentiles_text(values: list[float]) -> str:
    """Return the p50, p99 and p99.9 as text."""
    return " ".join(f"{percentile(values, share):8.2f}" for share in (0.5, 0.99, 0.999))


def measure_peer(peer: Peer, options: Options) -> dict[str, Any]:
    """Measure a peer with one worker."""
    count = int(options.rate * options.seconds)
    warm_up = replace(options, function="noop", tasks=50)
    with redis_under_test("off") as (server, url), Workspace(replace(warm_up, url=url)) as workspace:
        if peer.redis:
            workspace.run_peer(peer, "feed")
            workspace.start_peer(peer, "work")
            workspace.wait_until_run(50)
        sender = Sender(workspace.start_peer(peer, "trickle", pipes=True))
        return waits(peer.label, workspace, poll_results(server.client(), sender, count, workspace))


def measure_mutitask(options: Options) -> dict[str, Any]:
    """Measure MutiTask with one agent."""
    count = int(options.rate * options.seconds)
    options = replace(options, function="stamp", capacity=1000)
    with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
        system = MutiTask(workspace, server, trickle=True)
        system.add_agents()
        system.resume_agents()
        system.start_feed()
        sender = Sender(system.server)
        return waits("MutiTask", workspace, poll_mutitask_results(system, sender, count))


def run(plan: Plan) -> list[dict[str, Any]]:
    """Measure all rounds, at most two. The summary puts the waits of all rounds of a system together."""
    rows = []
    options = Options("", "", rate=RATE, seconds=4.0 if plan.quick else 11.0)
    rounds: list[Callable[[], Any]] = []
    for number in range(min(2, plan.rounds)):
        rounds.append(lambda: measure_mutitask(options))
        rounds += [
            lambda peer=peer: run_or_report(peer.label, measure_peer, peer, options)  # type: ignore[misc]
            for peer in plan.rotated(number)
        ]
    for measure in rounds:
        found = measure()
        if found:
            rows.append(
                {
                    key: value if key == "system" else [round(v, 3) for v in value]
                    for key, value in found.items()
                }
            )
    return rows
