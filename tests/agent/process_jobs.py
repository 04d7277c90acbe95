"""Jobs for agents in process mode whose tasks write notes into the test's folder."""

from __future__ import annotations

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
