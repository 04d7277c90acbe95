"""Measures what a child process of `--kind process` costs by each start method: its own memory, and the time to start.

    python -m benchmarks.start_methods [--children 20]

The job imports numpy. Each child runs one task before its memory is read. Own memory is what would be free again if the
child ended (USS: the private pages of /proc/PID/smaps_rollup); Pss adds its share of the pages that others hold too.
Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from worker_agent.execution.child_process import ChildProcess, setup_of
from worker_agent.execution.fork_server_process import ForkServer
from worker_agent.protocol import list_item, wire
from worker_agent.settings import Settings

JOB = """
import numpy

def task_function(task):
    return float(numpy.arange(1000).sum())
"""


def settings_for(job: Path, method: Literal["forkserver", "spawn"]) -> Settings:
    """Return the settings of an agent that runs the job by this start method."""
    return Settings(
        lambda: "", "", 0, None, 1, lambda _channel: (print, None), kind="process", start_method=method,
        job=str(job),
    )  # fmt: skip


def own_and_share_kb(pid: int) -> tuple[int, int]:
    """Return the USS and the Pss of a process in kB."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name] = int(size)
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"], sizes["Pss:"]


def started(settings: Settings, fork_server: ForkServer | None) -> tuple[ChildProcess, float]:
    """Start a child and let it run a task. Return it, and how long it took until the child was ready, in seconds."""
    begin = time.monotonic()
    child = ChildProcess(setup_of(settings, 0, [0]), fork_server)
    if why := child.load_functions():
        raise RuntimeError(why)
    took = time.monotonic() - begin
    child.give([(list_item.header("benchrun", 0) + wire.pack(1), 0)])
    answers = []
    while None not in answers:
        answers += child.receive(None)
    return child, took


def measure(job: Path, method: Literal["forkserver", "spawn"], count: int) -> None:
    """Start `count` children, and print the medians."""
    settings = settings_for(job, method)
    fork_server = ForkServer(setup_of(settings, 0, [0])) if method == "forkserver" else None
    if fork_server is not None:
        started(settings, fork_server)[0].retire()  # The first child waits until the job is loaded.
    children = []
    try:
        times = []
        for _ in range(count):
            child, took = started(settings, fork_server)
            children.append(child)
            times.append(took)
        sizes = [own_and_share_kb(child.pid) for child in children]
    finally:
        for child in children:
            child.retire()
        if fork_server is not None:
            fork_server.close()
    own, share = (statistics.median(column) / 1024 for column in zip(*sizes, strict=True))
    ready_ms = statistics.median(times) * 1000
    print(f"{method:10}  own {own:5.1f} MB   Pss {share:5.1f} MB   ready after {ready_ms:6.1f} ms")


def main() -> None:
    """Measure both start methods, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--children", type=int, default=20, help="how many children each start method starts")
    count = parser.parse_args().children
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "numpy_job.py")
        job.write_text(JOB)
        measure(job, "spawn", count)
        measure(job, "forkserver", count)


if __name__ == "__main__":
    main()
