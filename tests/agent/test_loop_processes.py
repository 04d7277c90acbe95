"""`--kind asyncio --processes N`: event loops in child processes, also when one of them dies or is blocked."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from mutitask_tui.server.inspector import Inspector
from tests.agent.process_jobs import (
    children_of,
    expect_all_recorded,
    job,
    kill_at_random,
    noted,
    stop,
)
from tests.agent.test_timeouts import is_running
from tests.crashes.fleet import NAME, Fleet, wait_for_text
from tests.support.programs import Program

SPREAD = ("--device", "0", "--kind", "asyncio", "--processes", "2")

NAPS = """
import asyncio
BOTH_ARE_THERE = False

def setup():
    note(f"process-{os.getpid()}", "")

def tasks():
    yield from range(COUNT)

async def task_function(task):
    global BOTH_ARE_THERE
    while not BOTH_ARE_THERE:
        await asyncio.sleep(0.1)
        BOTH_ARE_THERE = len(list(Path(FOLDER).glob("process-*[0-9]"))) == 2
    await asyncio.sleep(0.2)
    return [task, os.getpid()]
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_thousand_tasks_at_once_are_spread_over_the_processes(fleet, method):
    job(fleet, NAPS.replace("COUNT", "3000"))
    fleet.serve("--capacity", "3000")
    agent = fleet.agent(*SPREAD, "--concurrency", "1000", "--start-method", method)

    fleet.wait_until_over(3_000)

    values = [recorded.value for recorded in fleet.results()]
    assert sorted(task for task, _ in values) == list(range(3_000))
    pids = {pid for _, pid in values}
    assert len(pids) == 2
    assert agent.pid not in pids
    stop(agent)
    assert not any(map(is_running, pids))


SHARED = """
import asyncio
CLIENT = None

async def setup(device):
    global CLIENT
    CLIENT = asyncio.Semaphore(3), asyncio.get_running_loop()

async def teardown():
    assert asyncio.get_running_loop() is CLIENT[1]
    note(f"torn-down-{os.getpid()}", "")

def tasks():
    yield from range(200)

async def task_function(task):
    async with CLIENT[0]:
        await asyncio.sleep(0)
    if task < 20:
        note(f"started-{task}", "")
        while len(list(Path(FOLDER).glob("started-*"))) < 20:
            await asyncio.sleep(0.02)
    return os.getpid()
"""


def test_each_process_is_set_up_and_torn_down_on_its_loop(fleet):
    job(fleet, SHARED)
    fleet.serve("--capacity", "200")
    agent = fleet.agent(*SPREAD, "--concurrency", "20")
    fleet.wait_until_over(200)
    pids = {recorded.value for recorded in fleet.results()}
    assert pids == set(children_of(agent)), "each process holds half of the first 20 tasks"

    stop(agent)

    assert {path.name for path in fleet.folder.glob("torn-down-*")} == {f"torn-down-{pid}" for pid in pids}


def test_a_process_whose_setup_raises_takes_no_task_and_starts_again(fleet):
    job(
        fleet,
        """
async def setup():
    if not Path(FOLDER, "repaired").exists():
        raise OSError("no licence here")

def tasks():
    yield from range(5)

async def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*SPREAD, "--concurrency", "4")
    wait_for_text(agent, "a child process could not start (JobError: job.py: setup `setup` failed, line ")
    assert fleet.counters().waiting == 5

    (fleet.folder / "repaired").touch()

    fleet.expect_each_once(list(range(5)))
    stop(agent)


HELD = """
import asyncio

def tasks():
    yield from range(40)

async def task_function(task):
    if task == 20:
        note("started", os.getpid())
    while not Path(FOLDER, "release").exists():
        await asyncio.sleep(0.02)
    return task
"""


def start_held(fleet: Fleet, *options: str) -> tuple[Program, int]:
    """Start an agent whose 40 tasks wait for the note `release`. Return it, and the process of one of them."""
    job(fleet, HELD)
    fleet.serve("--lease", "600", "--capacity", "40")
    agent = fleet.agent(*SPREAD, "--concurrency", "40", *options)
    fleet.wait_for(lambda counters: counters.claimed == 40)
    return agent, int(noted(fleet, "started"))


def test_a_killed_process_counts_one_crash_of_each_task_that_it_ran(fleet):
    agent, child = start_held(fleet)

    os.kill(child, signal.SIGKILL)
    wait_for_text(agent, "a child process died (killed by SIGKILL) while it ran ")
    (fleet.folder / "release").touch()

    results = fleet.expect_each_once(list(range(40)))
    assert {recorded.attempt for recorded in results} == {0}
    crashes = {recorded.value: recorded.crashes for recorded in results}
    assert set(crashes.values()) == {0, 1}
    assert crashes[20] == 1
    assert 10 <= sum(crashes.values()) <= 30, "the tasks of the other process are not to blame"
    stop(agent)


def test_a_task_that_kills_its_process_is_found_and_all_others_run(fleet):
    job(
        fleet,
        """
import asyncio

def tasks():
    yield from range(60)

async def task_function(task):
    await asyncio.sleep(0.01)
    if task == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "60")
    agent = fleet.agent(*SPREAD, "--concurrency", "10")

    fleet.expect_each_once(list(range(60)), failed=1)

    (failed,) = fleet.failed()
    assert (failed.number, failed.stage, failed.error_type) == (30, "crashed", "ProcessDied")
    stop(agent)


def test_a_run_over_its_limit_is_cancelled_in_its_process(fleet):
    job(
        fleet,
        """
import asyncio

def tasks():
    yield from [*range(50), "hang", *range(50)]

async def task_function(task):
    if task == "hang":
        try:
            await asyncio.sleep(600)
        finally:
            note("cancelled", os.getpid())
    return os.getpid()
""",
    )
    fleet.serve("--lease", "600", "--capacity", "200", "--retries", "0")
    agent = fleet.agent(*SPREAD, "--concurrency", "10", "--timeout", "0.5")

    counters = fleet.wait_until_over(101)

    assert (counters.done, counters.failed) == (100, 1)
    (failed,) = fleet.failed()
    assert (failed.stage, failed.error_type) == ("timeout", "TimeoutError")
    assert int(noted(fleet, "cancelled")) in children_of(agent)
    stop(agent)


def test_a_process_whose_loop_is_blocked_is_replaced_and_only_the_late_task_fails(fleet):
    job(
        fleet,
        """
import asyncio

def tasks():
    yield "block"
    yield from range(20)

async def task_function(task):
    if task == "block":
        note("blocked", os.getpid())
        time.sleep(600)
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "40", "--retries", "0")
    agent = fleet.agent(*SPREAD, "--concurrency", "6", "--timeout", "0.5")
    child = int(noted(fleet, "blocked"))

    counters = fleet.wait_until_over(21)

    assert "its event loop is blocked; it is killed and replaced" in agent.stderr
    assert not is_running(child)
    failed = {task.task: task.stage for task in fleet.failed()}
    assert failed["block"] == "timeout"
    assert set(failed.values()) == {"timeout"}
    assert counters.done + counters.failed == 21
    assert {recorded.crashes for recorded in fleet.results()} == {0}
    stop(agent)


def test_cancel_task_reaches_the_process_of_the_task(fleet):
    agent, child = start_held(fleet)

    fleet.ctl("cancel_task", "0", "20")

    fleet.wait_for(lambda counters: counters.failed == 1)
    (failed,) = fleet.failed()
    assert (failed.number, failed.stage) == (20, "cancelled")
    assert is_running(child)
    (fleet.folder / "release").touch()
    fleet.wait_for(lambda counters: counters.done == 39)
    stop(agent)


def test_a_blocked_loop_is_killed_for_a_task_that_a_person_cancels(fleet):
    job(
        fleet,
        """
import asyncio

def tasks():
    yield from range(4)

async def task_function(task):
    if task == 0 and not Path(FOLDER, "blocked").exists():
        note("blocked", os.getpid())
        time.sleep(600)
    return task
""",
    )
    fleet.serve("--lease", "600", "--retries", "0")
    agent = fleet.agent(*SPREAD, "--concurrency", "2")
    child = int(noted(fleet, "blocked"))

    fleet.ctl("cancel_task", "0", "0")

    counters = fleet.wait_until_over(4)
    assert (counters.done, counters.failed) == (3, 1)
    (failed,) = fleet.failed()
    assert (failed.number, failed.stage) == (0, "cancelled")
    assert not is_running(child)
    stop(agent)


def test_a_plain_function_that_cannot_be_cancelled_keeps_its_process(fleet):
    job(
        fleet,
        """
def tasks():
    yield from range(4)

def task_function(task):
    if task == 0:
        note("started", os.getpid())
        wait_for("release")
    return task
""",
    )
    fleet.serve("--lease", "600")
    agent = fleet.agent(*SPREAD, "--concurrency", "2")
    child = int(noted(fleet, "started"))

    said = fleet.ctl("cancel_task", "0", "0")

    assert "cannot be stopped" in said
    (fleet.folder / "release").touch()
    fleet.expect_each_once(list(range(4)))
    assert is_running(child)
    stop(agent)


def test_a_second_stop_cancels_the_coroutines_and_hands_their_tasks_back(fleet):
    job(
        fleet,
        """
import asyncio

def tasks():
    yield from range(10)

async def task_function(task):
    try:
        note(f"started-{task}", os.getpid())
        await asyncio.sleep(600)
    finally:
        note(f"cancelled-{task}", "")
""",
    )
    fleet.serve("--lease", "600")
    agent = fleet.agent(*SPREAD, "--concurrency", "10")
    pids = {int(noted(fleet, f"started-{number}")) for number in range(10)}
    agent.terminate()
    wait_for_text(agent, "stopping: waiting for 10 running tasks")
    begun = time.monotonic()

    agent.terminate()

    assert agent.wait() == 1, agent
    assert time.monotonic() - begun < 15
    assert "stopped; 10 tasks handed back" in agent.stderr
    assert len(list(fleet.folder.glob("cancelled-*"))) == 10
    assert not any(map(is_running, pids))
    assert fleet.waiting_counts() == dict.fromkeys(range(10), (0, 0))


def test_processes_die_with_a_killed_agent(fleet, wait_until):
    agent, _ = start_held(fleet)
    pids = children_of(agent)
    assert len(pids) == 2

    agent.kill()

    wait_until(lambda: not any(map(is_running, pids)))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--processes", "2"], "--processes needs --kind asyncio"),
     (["--processes", "2", "--kind", "asyncio"], "--processes 2 needs --concurrency 2 or more")],
)  # fmt: skip
def test_processes_are_refused_without_coroutines(spawn, tmp_path, words, message):
    (tmp_path / "job.py").write_text("def task_function(task):\n    return task\n")

    ended = spawn(["worker-agent", tmp_path / "job.py", *words])

    assert ended.wait() == 2
    assert f"worker-agent: {message}" in ended.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--processes", "2"], "--processes needs --kind asyncio"),
     (["--start-method", "spawn"], "--start-method needs --kind process, or --processes")],
)  # fmt: skip
def test_mutitask_run_refuses_what_its_local_agents_would_refuse(spawn, tmp_path, words, message):
    (tmp_path / "job.py").write_text(
        "def tasks():\n    yield 1\n\ndef task_function(task):\n    return task\n"
    )

    ended = spawn(["mutitask", "run", tmp_path / "job.py", "--headless", "--local-agents", "1", *words])

    assert ended.wait() == 2
    assert message in ended.stderr


def test_what_coroutines_in_a_process_print_reaches_the_agent_with_their_numbers(fleet):
    job(
        fleet,
        """
import asyncio
from worker_agent import current_task

def tasks():
    yield from range(20)

async def task_function(task):
    current_task().progress(1, 2, "half")
    await asyncio.sleep(0.05)
    print(f"hello from {task}")
    if task == 7:
        raise ValueError("seven")
    return task
""",
    )
    fleet.serve("--lease", "600", "--retries", "0")
    agent = fleet.agent(*SPREAD, "--concurrency", "10")

    fleet.wait_until_over(20)

    (failed,) = fleet.failed()
    assert failed.number == 7
    wait_for_text(agent, "hello from ", times=20)
    stop(agent)


def test_killing_processes_at_random_moments_loses_no_task_and_records_none_twice(fleet):
    count, chance = 1_500, random.Random(11)
    job(
        fleet,
        f"""
import asyncio

def tasks():
    yield from range({count})

async def task_function(task):
    await asyncio.sleep(task % 7 * 0.005)
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "500")
    agent = fleet.agent(*SPREAD, "--concurrency", "20")

    kill_at_random(fleet, agent, chance, count, kills=8, servers_every=4)

    _, failed = expect_all_recorded(fleet, count)
    assert {task.stage for task in failed} <= {"crashed"}
    stop(agent)


PROGRAM = """
from worker_agent import Client
from my_functions import begin, end, solve

client = Client(device=0, name="crash", kind="asyncio", processes=2, concurrency=10, setup=begin, teardown=end)
client.initial_task_function(solve)
client.start()
"""

FUNCTIONS = """
import asyncio, os
from pathlib import Path
LOOPS = []
HERE = Path(__file__).parent

async def begin(device):
    LOOPS.append(asyncio.get_running_loop())
    (HERE / f"process-{os.getpid()}").touch()

async def end():
    print("ended", flush=True)

async def solve(task):
    while len(list(HERE.glob("process-*"))) < 2:
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.2)
    assert LOOPS == [asyncio.get_running_loop()]
    return os.getpid()
"""


def test_a_program_spreads_its_coroutines_over_processes(fleet, spawn):
    fleet.job("def tasks():\n    yield from range(100)\n\ndef task_function(task):\n    return None\n")
    (fleet.folder / "my_functions.py").write_text(FUNCTIONS)
    (fleet.folder / "program.py").write_text(PROGRAM)
    fleet.serve("--capacity", "100")
    env = {"MUTITASK_REDIS_URL": fleet.redis.url}
    program = spawn(["python", fleet.folder / "program.py"], env=env)

    counters = fleet.wait_until_over(100)

    assert counters.done == 100
    assert len({recorded.value for recorded in fleet.results()}) == 2
    stop(program)
    assert program.stdout.count("ended") == 2


def test_local_agents_spread_coroutines_over_processes(fleet):
    job(fleet, NAPS.replace("COUNT", "60"))
    options = ["--kind", "asyncio", "--processes", "2", "--concurrency", "20"]
    server = fleet.serve("--local-agents", "1", "--until-done", *options)

    assert server.wait() == 0, server

    assert len({recorded.value[1] for recorded in fleet.results()}) == 2


def test_a_function_that_blocks_the_loop_of_a_process_is_named_on_the_devices_screen(fleet):
    job(
        fleet,
        """
def tasks():
    yield 1

async def task_function(task):
    time.sleep(2)
    return task
""",
    )
    fleet.serve("--lease", "600")
    agent = fleet.agent(*SPREAD, "--concurrency", "2")

    wait_for_text(agent, " WARNING blocked the event loop for ")

    assert agent.stderr.count("blocked the event loop for ") == 1
    inspector = Inspector(fleet.redis.url, NAME)
    fleet.wait_for(lambda _: any("task_function, job.py:" in line for line in inspector.device_log(0)))
    fleet.expect_each_once([1])
    stop(agent)
