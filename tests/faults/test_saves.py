"""Save functions on a full disk, or that hang: their runs fail and are retried, and all other tasks continue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.fleet import Fleet

FULL = Path("/dev/full")
COUNT = 60

SAVES_TO_DISK = f"""
from pathlib import Path

def tasks():
    yield from range({COUNT})

def task_function(task):
    return task

def save_function(result):
    with Path(FOLDER, "disk").open("a") as disk:
        print(result, file=disk)
"""


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_a_save_function_fails_its_tasks_until_there_is_room(fleet: Fleet) -> None:
    disk = fleet.folder / "disk"
    disk.symlink_to(FULL)
    fleet.job(SAVES_TO_DISK)
    fleet.serve("--retries", "1", "--lease", "5")
    agent = fleet.agent("--device", "0", "--kind", "process")
    fleet.wait_for(lambda counters: counters.failed == COUNT)
    assert {(task.stage, task.error_type) for task in fleet.failed()} == {("save", "OSError")}
    assert all("No space left on device" in task.error for task in fleet.failed())

    disk.unlink()
    fleet.ctl("reload_all_fail_tasks")

    counters = fleet.wait_until_over(COUNT)
    assert (counters.done, counters.failed) == (COUNT, 0)
    assert sorted(int(line) for line in disk.read_text().split()) == list(range(COUNT))
    assert agent.running


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_disk_that_is_full_for_a_moment_costs_a_retry(fleet: Fleet) -> None:
    disk = fleet.folder / "disk"
    disk.symlink_to(FULL)
    fleet.job(SAVES_TO_DISK)
    fleet.serve("--retry-delay", "1", "--lease", "5")
    fleet.agent("--device", "0")
    fleet.wait_for(lambda counters: counters.delayed == COUNT)

    disk.unlink()

    counters = fleet.wait_until_over(COUNT)
    assert (counters.done, counters.failed) == (COUNT, 0)
    assert sorted(int(line) for line in disk.read_text().split()) == list(range(COUNT))


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_save_function_that_hangs_is_given_up_like_a_task_function(fleet: Fleet, kind: str) -> None:
    """The time limit is for the whole run, including the save function."""
    fleet.job(
        f"""
import time
from pathlib import Path

def tasks():
    yield from range({COUNT})

def task_function(task):
    return task

def save_function(result):
    if result in (20, 40):
        with Path(FOLDER, f"hangs-{{result}}").open("a") as noted:
            print("once", file=noted)
        if result == 40 or len(Path(FOLDER, "hangs-20").read_text().split()) == 1:
            time.sleep(600)
"""
    )
    fleet.serve("--retries", "2", "--lease", "5")
    fleet.agent("--device", "0", "--kind", kind, "--concurrency", "4", "--timeout", "0.4")

    counters = fleet.wait_until_over(COUNT)

    assert (counters.done, counters.failed) == (COUNT - 1, 1)
    (failed,) = fleet.failed()
    assert (failed.number, failed.stage) == (40, "timeout")
    assert failed.error == "it ran longer than the limit of 0.4 s (--timeout)"
    assert len((fleet.folder / "hangs-20").read_text().split()) == 2
    assert len((fleet.folder / "hangs-40").read_text().split()) == 3
