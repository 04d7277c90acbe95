"""Jobs for agents in process mode whose tasks write notes into the test's folder."""

from __future__ import annotations

from pathlib import Path

from tests.crashes.fleet import Fleet
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
