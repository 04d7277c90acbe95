"""Measures the memory of an idle `worker-agent`, compared with a bare process with the same libraries.

    python -m benchmarks.footprint

It starts a Valkey, a server, an agent, and a bare process that imports redis (with hiredis), msgpack and click, holds
one connection and waits. It prints the resident memory of both and the difference. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mutitask_tui.embedded import valkey as embedded

JOB = "tasks = iter(())\n\ndef task_function(task):\n    return task\n"
BARE = """
import sys
import click, hiredis, msgpack, redis
client = redis.Redis.from_url(sys.argv[1])
client.ping()
print("ready", flush=True)
sys.stdin.read()
"""
NAME = "footprint"


def resident_kb(pid: int) -> int:
    """Return the resident memory of a process in kB, including shared libraries."""
    return _status_kb(pid, "VmRSS:")


def peak_kb(pid: int) -> int:
    """Return the most resident memory that a process has had, in kB."""
    return _status_kb(pid, "VmHWM:")


def _status_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has ended")


def settled_kb(pid: int) -> int:
    """Return the resident memory in kB when it has not changed for half a second."""
    before = resident_kb(pid)
    while True:
        time.sleep(0.5)
        now = resident_kb(pid)
        if abs(now - before) < 64:
            return now
        before = now


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition is true, at most 20 seconds."""
    until = time.monotonic() + 20
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"not within 20 s: {what}")
        time.sleep(0.02)


def measure() -> tuple[int, int]:
    """Return the resident kB of the bare process and of the idle agent."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = stack.enter_context(embedded.ensure(NAME, throwaway=True))
        job, log = folder / "job.py", folder / "log"
        job.write_text(JOB)

        def start(*args: str | Path, **how: object) -> subprocess.Popen[bytes]:
            command = [sys.executable, *map(str, args)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, **how)  # type: ignore[call-overload]
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process  # type: ignore[no-any-return]

        namespace = ["--redis", own.url, "--name", NAME]
        out = stack.enter_context(log.open("wb"))
        serve = "from mutitask_tui.cli.main import main; main()"
        start("-c", serve, "run", job, "--headless", *namespace, stdout=out, stderr=out)
        agent = start("-m", "worker_agent", job, *namespace, stdout=out, stderr=out)
        wait_for(lambda: " serves " in log.read_text(), "the agent is registered")
        bare = start("-c", BARE, own.url, stdout=subprocess.PIPE)
        assert bare.stdout is not None
        bare.stdout.readline()
        return settled_kb(bare.pid), settled_kb(agent.pid)


def main() -> None:
    """Measure and print the memory."""
    bare, agent = measure()
    print(f"bare process   {bare / 1024:6.1f} MB")
    print(f"idle agent     {agent / 1024:6.1f} MB")
    print(f"difference     {(agent - bare) / 1024:6.1f} MB")


if __name__ == "__main__":
    main()
