"""Local agents that cannot start are given up, and a job's helpers do not replace libraries of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crashes.fleet import Fleet
from tests.support.programs import Program

LOCAL = ("--local-agents", "2", "--autostart", "--until-done", "--headless")


def test_agents_that_die_before_they_have_a_device_are_given_up_and_the_run_can_be_resumed(
    fleet: Fleet,
) -> None:
    fleet.job(
        """
import os, sys
from pathlib import Path

if "mutitask_tui" not in sys.modules and not Path(FOLDER, "mended").exists():
    print("no licence here", file=sys.stderr)
    os._exit(7)

def tasks():
    yield from range(20)

def task_function(task):
    return task
"""
    )
    died = fleet.newcomer(*LOCAL)

    assert died.wait(60) == 9, died
    assert "Device0's agent died 4 times before it was registered: no licence here" in died.stderr
    assert "no agent could work, so the run ends; fix that and continue with --resume" in died.stderr
    (fleet.folder / "mended").touch()
    resumed = fleet.newcomer(*LOCAL, "--resume")
    assert resumed.wait(60) == 0, resumed
    fleet.expect_each_once(list(range(20)))


def test_agents_that_refuse_their_job_end_the_run_with_their_message(fleet: Fleet) -> None:
    fleet.job(
        """
import sys
if "mutitask_tui" not in sys.modules:
    raise RuntimeError("not on this machine")

def tasks():
    yield from range(20)

def task_function(task):
    return task
"""
    )
    ended = fleet.newcomer(*LOCAL)

    assert ended.wait(60) == 9, ended
    assert "not on this machine" in ended.stderr
    assert "20 still to do" in ended.stderr


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_helpers_with_a_librarys_name_do_not_end_agents(
    fleet: Fleet, spawn: Callable[..., Program], tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "shadows"
    folder.mkdir()
    for name in ("queue", "json", "redis", "logging", "types", "random", "socket", "msgpack"):
        (folder / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    (folder / "helper.py").write_text("def double(task):\n    return 2 * task\n")
    (folder / "job.py").write_text(
        "from helper import double as task_function\n\ndef tasks():\n    yield from range(5)\n"
    )
    command = ["mutitask", "run", "job.py", *LOCAL, "--kind", kind, "--name", "shadows"]

    done = spawn(command, env={"MUTITASK_REDIS_URL": fleet.redis.url}, cwd=folder)

    assert done.wait(60) == 0, done
