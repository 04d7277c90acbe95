"""Jobs for agents in process mode whose tasks write notes into the test's folder."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

from mutitask_tui.server.snapshot import FailedTask
from tests.crashes.fleet import Fleet, Recorded
from tests.support.programs import Program

PROCESS = ("--device", "0", "--kind", "process")

PRELUDE = """
import os, signal, sys, time
from pathlib import Path

def wait_for(name):
    while not Path(FOLDER, name).exists():
        time.sleep(0.01)

def note(name, text):
    part = Path(FOLDER, name + ".part")
    part.write_text(str(text))
    part.rename(Path(FOLDER, name))
"""


def job(fleet: Fleet, text: str) -> None:
    fleet.job(PRELUDE + text)


def noted(fleet: Fleet, name: str) -> str:
    """Wait until a task has written this note, and return it."""
    path = fleet.folder / name
    fleet.wait_for(lambda _: path.exists())
    return path.read_text()


def stop(agent: Program) -> None:
    agent.terminate()
    assert agent.wait() == 0, agent


def fork_server_of(agent: Program) -> int:
    """Return the id of the agent's fork server."""
    (pid,) = (pid for pid in _children_of(agent.pid) if _is_fork_server(pid))
    return pid


def children_of(agent: Program) -> list[int]:
    """Return the ids of the agent's child processes, which its fork server may have forked."""
    direct = _children_of(agent.pid)
    return [child for pid in direct for child in (_children_of(pid) if _is_fork_server(pid) else [pid])]


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found


def _is_fork_server(pid: int) -> bool:
    return b"execution.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()


def kill_at_random(
    fleet: Fleet, agent: Program, chance: random.Random, count: int, *, kills: int, servers_every: int
) -> None:
    """Kill a child of the agent, or each `servers_every`-th time its fork server, whenever a task has ended."""
    for number in range(kills):
        before = fleet.counters().done
        fleet.wait_for(
            lambda counters, before=before: counters.done > before or counters.done + counters.failed == count
        )
        # The agent may have reaped the child meanwhile.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            of_server = number % servers_every == servers_every - 1
            if victims := [fork_server_of(agent)] if of_server else children_of(agent):
                os.kill(chance.choice(victims), signal.SIGKILL)


def expect_all_recorded(fleet: Fleet, count: int) -> tuple[list[Recorded], list[FailedTask]]:
    """Expect that each of `count` tasks is done with itself as its result, or failed. Return both."""
    counters = fleet.wait_until_over(count)
    results, failed = fleet.results(), fleet.failed()
    numbers = [recorded.number for recorded in results] + [task.number for task in failed]
    assert sorted(numbers) == list(range(count))
    assert (counters.done, counters.failed) == (len(results), len(failed))
    assert all(recorded.value == recorded.number for recorded in results)
    return results, failed
