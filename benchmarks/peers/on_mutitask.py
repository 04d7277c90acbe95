"""MutiTask's server.

`serve` opens a namespace, prints a line, begins to feed when it reads one, prints `{"seconds": ...}` when the last task
is in Redis, and stops when its input ends. `trickle` does the same with the generator of a trickle. The agents are the
real `worker-agent`, with the job in `mutitask_job.py`.
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


def trickling() -> Iterator[int]:
    """Tasks that are yielded when they are due."""
    for index, at in kit.due():
        time.sleep(max(0.0, at - time.monotonic()))
        kit.told(index, time.monotonic())
        yield index


def serve(iterator: Iterator[Any], look_s: float) -> None:
    """Feed it all. Looking whether that is done takes the interpreter from the feed: a trickle is left alone."""
    plan = RunPlan(
        channels=1, devices=1, capacity=OPTIONS.capacity or max(1, OPTIONS.tasks), results_max=10_000_000
    )
    core = ServerCore(OPTIONS.url, NAME, plan, [iterator])
    core.open()
    print("opened", flush=True)
    sys.stdin.readline()
    client, books = connect(OPTIONS.url), Keys(NAME).channel(0).counters
    began = time.monotonic()
    core.start()
    while client.hget(books, "exhausted") != b"1":
        if core.ended.is_set():
            sys.exit(f"the server ended: {core.failure}")
        time.sleep(look_s)
    print(json.dumps({"seconds": time.monotonic() - began, "began": began}), flush=True)
    sys.stdin.read()
    core.stop()


if __name__ == "__main__":
    kit.run(
        serve=lambda: serve(kit.items(OPTIONS), 0.001 if OPTIONS.tasks < 200_000 else 0.01),
        trickle=lambda: serve(trickling(), 0.5),
    )
