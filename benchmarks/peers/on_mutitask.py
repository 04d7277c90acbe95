"""MutiTask's server.

`serve` opens a namespace and prints a line. It starts to feed when it reads a line, prints `{"seconds": ...}` when the
last task is in Redis, and stops when its stdin ends. `trickle` does the same with the generator of a trickle. The
agents are the real `worker-agent` with the job in `mutitask_job.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import kit

from mutitask_tui.server.core import ServerCore
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import RunPlan

NAME = "bench"
OPTIONS = kit.OPTIONS


def trickled_tasks() -> Iterator[int]:
    """Yield each task when it is due."""
    for index, at in kit.schedule():
        time.sleep(max(0.0, at - time.monotonic()))
        kit.report_sent(index, time.monotonic())
        yield index


def serve(iterators: list[Iterator[Any]], poll_s: float) -> None:
    """Feed all tasks. Check every `poll_s` seconds whether the feed is done.

    Each check takes time from the feed, so a trickle is checked rarely.
    """
    plan = RunPlan(
        channels=len(iterators),
        devices=1,
        capacity=OPTIONS.capacity or max(1, OPTIONS.tasks),
        results_max=10_000_000,
    )
    core = ServerCore(OPTIONS.url, NAME, plan, iterators)
    core.open()
    print("opened", flush=True)
    sys.stdin.readline()
    client = connect(OPTIONS.url)
    counters = [Keys(NAME).channel(channel).counters for channel in range(len(iterators))]
    started = time.monotonic()
    core.start()
    while counters:
        if client.hget(counters[-1], "exhausted") == b"1":
            counters.pop()
            continue
        if core.ended.is_set():
            sys.exit(f"the server ended: {core.failure}")
        time.sleep(poll_s)
    print(json.dumps({"seconds": time.monotonic() - started, "started": started}), flush=True)
    sys.stdin.read()
    core.stop()


if __name__ == "__main__":
    kit.run(
        serve=lambda: serve(
            [kit.items(OPTIONS, channel) for channel in range(OPTIONS.channels)],
            0.001 if OPTIONS.tasks < 200_000 else 0.01,
        ),
        trickle=lambda: serve([trickled_tasks()], 0.5),
    )
