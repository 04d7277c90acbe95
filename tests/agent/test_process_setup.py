"""`setup` and `teardown` with `--kind process`: once in each child, around its tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.process_jobs import PROCESS, fork_server_of, job, noted, stop
from tests.agent.test_timeouts import is_running
from tests.crashes.fleet import wait_for_text

METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn"])

EVENTS = """
import asyncio
LOOP = None

def event(what):
    with Path(FOLDER, "events").open("a") as events:
        print(os.getpid(), what, file=events)

async def setup(device):
    global LOOP
    LOOP = asyncio.get_running_loop()
    event(f"setup{device}")

async def teardown():
    event("teardown" if asyncio.get_running_loop() is LOOP else "on another loop")

def tasks():
    yield from range(20)

async def task_function(task):
    event("task" if asyncio.get_running_loop() is LOOP else "on another loop")
    return task
"""


@METHODS
def test_each_child_sets_up_before_its_tasks_and_tears_down_after_them(fleet, method):
    job(fleet, EVENTS)
    fleet.serve("--capacity", "20")
    agent = fleet.agent(
        *PROCESS, "--start-method", method, "--max-tasks-per-child", "10", "--concurrency", "2"
    )

    fleet.expect_each_once(list(range(20)))

    stop(agent)
    events: dict[str, list[str]] = {}
    for line in (fleet.folder / "events").read_text().splitlines():
        pid, what = line.split(maxsplit=1)
        events.setdefault(pid, []).append(what)
    assert len(events) >= 2
    for of_child in events.values():
        assert of_child == ["setup0", *["task"] * (len(of_child) - 2), "teardown"]


@METHODS
def test_a_child_whose_setup_raises_takes_no_task_and_starts_again(fleet, method):
    job(
        fleet,
        """
def setup():
    if not Path(FOLDER, "repaired").exists():
        raise OSError("no licence here")

def tasks():
    yield from range(5)

def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS, "--start-method", method)
    wait_for_text(agent, "a child process could not start (JobError: job.py: setup `setup` failed, line ")
    assert "OSError: no licence here" in agent.stderr
    assert fleet.counters().waiting == 5

    (fleet.folder / "repaired").touch()

    fleet.expect_each_once(list(range(5)))
    stop(agent)


def test_a_stopped_agent_waits_for_the_teardown_of_idle_children(fleet):
    job(
        fleet,
        """
def teardown():
    note("tearing-down", "")
    wait_for("release")
    note("torn-down", "")

def tasks():
    yield 1

def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS, "--drain-timeout", "0")
    fleet.expect_each_once([1])
    agent.terminate()
    noted(fleet, "tearing-down")
    assert agent.running

    (fleet.folder / "release").touch()

    assert agent.wait() == 0, agent
    assert (fleet.folder / "torn-down").exists()


def test_a_teardown_that_raises_is_told_and_changes_nothing(fleet):
    job(
        fleet,
        """
def teardown():
    raise OSError("the database is gone")

def tasks():
    yield 1

def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)
    fleet.expect_each_once([1])

    stop(agent)

    assert "teardown `teardown` failed (OSError: the database is gone" in agent.stderr


PROGRAM = """
from worker_agent import Client
from my_functions import begin, end, solve

client = Client(device=0, name="crash", kind="process", setup=begin, teardown=end)
client.initial_task_function(solve)
client.start()
"""

FUNCTIONS = """
import os
STATE = []

def begin(device):
    STATE.append(["begun", os.getppid()])

def end():
    print(f"ended {STATE[0][0]}", flush=True)

def solve(task):
    return STATE
"""


def test_a_program_passes_setup_and_teardown_to_its_children(fleet, spawn):
    fleet.job("def tasks():\n    yield 1\n\ndef task_function(task):\n    return None\n")
    (fleet.folder / "my_functions.py").write_text(FUNCTIONS)
    (fleet.folder / "program.py").write_text(PROGRAM)
    fleet.serve()
    env = {"MUTITASK_REDIS_URL": fleet.redis.url}
    program = spawn(["python", fleet.folder / "program.py"], env=env, cwd=Path("/"))

    fleet.wait_until_over(1)

    (recorded,) = fleet.results()
    assert recorded.value == [["begun", fork_server_of(program)]]
    stop(program)
    assert "ended begun" in program.stdout


@pytest.mark.parametrize(
    "kind", [["--kind", "process"], ["--kind", "asyncio", "--processes", "2", "--concurrency", "2"]]
)
def test_a_second_stop_does_not_wait_for_a_teardown_that_hangs(fleet, kind):
    job(
        fleet,
        """
def teardown():
    note("tearing-down", os.getpid())
    time.sleep(600)

def tasks():
    yield 1

def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent("--device", "0", *kind)
    fleet.expect_each_once([1])
    agent.terminate()
    child = int(noted(fleet, "tearing-down"))
    wait_for_text(agent, "stopped; 0 tasks handed back")

    agent.terminate()

    assert agent.wait(15) == 1, agent
    fleet.wait_for(lambda _: not is_running(child))
