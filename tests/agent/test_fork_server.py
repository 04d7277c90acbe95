"""The fork server of `--kind process`: it loads the job once, and children are copies of it that work like new ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.agent.process_jobs import PROCESS, children_of, fork_server_of, job, noted, stop
from tests.agent.test_timeouts import is_running
from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program

LOADS = """
with Path(FOLDER, "loads").open("a") as loads:
    print(os.getpid(), file=loads)
"""

ECHO = """
def tasks():
    yield from range(40)

def task_function(task):
    return task
"""

SPAWNS = "each child process loads the job itself (start method spawn)"


def loads(fleet: Fleet) -> int:
    """Return how many processes have loaded the job: the server, the agent's check, and those that run tasks."""
    return len((fleet.folder / "loads").read_text().split())


@pytest.mark.parametrize(("method", "expected"), [("forkserver", 3), ("fork", 3), ("spawn", 6)])
def test_the_fork_server_loads_the_job_once_for_all_children(fleet, method, expected):
    job(fleet, LOADS + ECHO)
    fleet.serve("--capacity", "40")
    agent = fleet.agent(*PROCESS, "--start-method", method, "--max-tasks-per-child", "10")

    fleet.expect_each_once(list(range(40)))

    stop(agent)
    assert expected <= loads(fleet) <= expected + (method == "spawn")


UNSAFE = {
    "a thread": ("import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
                 "it starts a thread while it is loaded (Thread-1 (sleep))"),
    "a connection": ("import socket; PAIR = socket.socketpair()", "it opens a connection while it is loaded"),
    "a file to read": ("FILE = open(__file__)", "it opens job.py while it is loaded"),
    "an event loop": ("import asyncio; LOOP = asyncio.new_event_loop()", "it opens "),
    "a native thread": ("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
identity = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(identity), None, libc.pause, None) == 0
""", "a library that it imports starts threads"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSAFE)
def test_a_job_whose_copies_would_disturb_each_other_is_loaded_by_each_child(fleet, what):
    code, why = UNSAFE[what]
    job(fleet, LOADS + code + ECHO)
    fleet.serve("--capacity", "40")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")

    fleet.expect_each_once(list(range(40)))

    stop(agent)
    assert agent.stderr.count(SPAWNS) == 1
    assert why in agent.stderr
    assert loads(fleet) in (4, 5), "the server, the check, the fork server and one or two children"


def test_a_job_with_numpy_and_a_log_file_is_shared(fleet):
    """OpenBLAS starts threads when numpy is imported, but ends them before each fork."""
    job(fleet, LOADS + "import numpy\nLOG = open(Path(FOLDER, 'log'), 'a')\nNULL = open(os.devnull)\n" + ECHO)
    fleet.serve("--capacity", "40")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")

    fleet.expect_each_once(list(range(40)))

    stop(agent)
    assert SPAWNS not in agent.stderr
    assert loads(fleet) == 3


def test_children_draw_different_random_numbers(fleet):
    job(
        fleet,
        """
import random
import numpy.random

random.seed(1)
numpy.random.seed(1)

def tasks():
    yield from range(6)

def task_function(task):
    return [random.random(), float(numpy.random.random())]
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS, "--max-tasks-per-child", "1")

    fleet.wait_until_over(6)

    values = [recorded.value for recorded in fleet.results()]
    assert len({number for pair in values for number in pair}) == 12
    stop(agent)


def test_children_have_a_process_group_of_their_own_and_the_jobs_signal_handlers(fleet):
    job(
        fleet,
        """
def own(number, frame): ...

signal.signal(signal.SIGTERM, own)

def tasks():
    yield "task"

def task_function(task):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)]
    return [os.getpgrp() == os.getpid(), handlers == [own, signal.SIG_DFL, signal.SIG_IGN], sys.argv]
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)

    fleet.expect_each_once([[True, True, [str(fleet.job_path)]]])

    stop(agent)


def test_exit_handlers_of_the_job_run_once_when_the_agent_stops(fleet, wait_until):
    job(
        fleet,
        """
import atexit, tempfile

SHARED = tempfile.TemporaryDirectory(dir=FOLDER, prefix="shared")
BY_HAND = tempfile.mkdtemp(dir=FOLDER, prefix="by-hand")
atexit.register(os.rmdir, BY_HAND)

def tasks():
    yield from range(10)

def task_function(task):
    return [os.path.exists(SHARED.name), os.path.exists(BY_HAND)]
""",
    )
    server = fleet.serve()
    agent = fleet.agent(*PROCESS, "--max-tasks-per-child", "2")

    fleet.expect_each_once([[True, True]] * 10)

    stop(agent)
    stop(server)
    assert not list(fleet.folder.glob("shared*")) + list(fleet.folder.glob("by-hand*"))


def test_a_job_that_is_edited_meanwhile_is_loaded_when_the_agent_restarts(fleet):
    text = """
def tasks():
    yield 1
    wait_for("edited")
    yield from [2, 3]

def task_function(task):
    return "old"
"""
    job(fleet, text)
    fleet.serve()
    agent = fleet.agent(*PROCESS, "--max-tasks-per-child", "1")
    fleet.wait_for(lambda counters: counters.done == 1)

    job(fleet, text.replace("old", "new"))
    (fleet.folder / "edited").touch()

    fleet.expect_each_once(["old"] * 3)
    stop(agent)


# The death of the fork server

HELD = """
def tasks():
    yield "held"
    yield from range(30)

def task_function(task):
    if task == "held":
        note("started", os.getpid())
        wait_for("release")
    return task
"""


def test_a_killed_fork_server_is_started_again_and_running_tasks_continue(fleet, wait_until):
    job(fleet, LOADS + HELD)
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS, "--concurrency", "2", "--max-tasks-per-child", "10")
    child = int(noted(fleet, "started"))
    first = fork_server_of(agent)

    os.kill(first, signal.SIGKILL)
    wait_for_text(
        agent, "the fork server died (killed by SIGKILL): it is started again; the running tasks continue"
    )
    fleet.wait_for(lambda counters: counters.done == 30)
    assert is_running(child)
    (fleet.folder / "release").touch()

    results = fleet.expect_each_once(["held", *range(30)])
    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    stop(agent)
    assert not is_running(child)


def test_a_child_that_dies_after_its_fork_server_counts_one_crash(fleet, wait_until):
    job(fleet, HELD + "\nPID = os.getpid()\n")
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)
    child = int(noted(fleet, "started"))
    os.kill(fork_server_of(agent), signal.SIGKILL)
    wait_for_text(agent, "the fork server died")

    os.kill(child, signal.SIGKILL)
    wait_for_text(
        agent, "process died (an unknown status, because its fork server had died): this counts as a crash"
    )
    (fleet.folder / "release").touch()

    results = fleet.expect_each_once(["held", *range(30)])
    assert {recorded.value: recorded.crashes for recorded in results if recorded.crashes} == {"held": 1}
    stop(agent)


def test_fork_server_and_children_die_with_a_killed_agent(fleet, wait_until):
    job(fleet, HELD)
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")
    noted(fleet, "started")
    pids = [fork_server_of(agent), *children_of(agent)]
    assert all(map(is_running, pids))

    agent.kill()

    wait_until(lambda: not any(map(is_running, pids)))


def start_with_a_slow_load(fleet: Fleet) -> tuple[Program, int]:
    """Start an agent whose fork server never ends to load the job. Return both once it loads."""
    job(
        fleet,
        """
if len(sys.argv) == 1 and Path(sys.argv[0]).name == "job.py":
    note("loading", os.getpid())
    time.sleep(600)
"""
        + ECHO,
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)
    pid = int(noted(fleet, "loading"))
    return agent, pid


def test_a_fork_server_that_loads_the_job_dies_with_a_killed_agent(fleet, wait_until):
    agent, pid = start_with_a_slow_load(fleet)

    agent.kill()

    wait_until(lambda: not is_running(pid))


def test_an_agent_stops_while_its_fork_server_loads_the_job(fleet):
    agent, pid = start_with_a_slow_load(fleet)

    agent.terminate()

    assert agent.wait() == 0, agent
    assert not is_running(pid)


@pytest.mark.parametrize(
    "words", [["--start-method", "spawn"], ["--start-method", "fork", "--kind", "thread"]]
)
def test_a_start_method_is_refused_for_threads(spawn, tmp_path, words):
    (tmp_path / "job.py").write_text("def task_function(task):\n    return task\n")

    ended = spawn(["worker-agent", tmp_path / "job.py", *words])

    assert ended.wait() == 2
    assert "worker-agent: --start-method needs --kind process" in ended.stderr


def test_a_forked_child_shares_most_of_the_jobs_memory(fleet):
    """The bound is generous: the goal of the benchmark is stricter, `python -m benchmarks.start_methods`."""
    job(fleet, "import numpy\n" + HELD)
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)
    child = int(noted(fleet, "started"))

    lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()

    own_kb = sum(
        int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))
    )
    assert own_kb < 9_000
    (fleet.folder / "release").touch()
    stop(agent)
