"""`--kind process`: whatever a task does to its process, the agent goes on, and no other task pays for it."""

from __future__ import annotations

import os
import signal
from collections import Counter

from tests.agent.test_timeouts import is_running
from tests.crashes.fleet import Fleet, wait_for_text
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
    """What a task noted, once it has."""
    path = fleet.folder / name
    fleet.wait_for(lambda _: path.exists())
    return path.read_text()


def stop(agent: Program) -> None:
    agent.terminate()
    assert agent.wait() == 0, agent


# --- Tasks that end their process --------------------------------------------------------------------------


def test_a_task_that_kills_its_process_fails_as_crashed_and_its_agent_and_all_others_go_on(fleet):
    deaths = {
        100: ("os._exit(0)", "exit status 0"),
        200: ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        300: ("import faulthandler; faulthandler._sigsegv()", "killed by SIGSEGV"),
    }
    job(
        fleet,
        f"""
DEATHS = { ({number: death for number, (death, _) in deaths.items()})!r}

def tasks():
    yield from range(400)

def task_function(task):
    exec(DEATHS.get(task, ""))
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "400", "--retries", "0")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")

    results = fleet.expect_each_once(list(range(400)), failed=3)

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    for failed in fleet.failed():
        how = deaths[failed.number][1]
        assert (failed.stage, failed.error_type) == ("crashed", "ProcessDied")
        assert failed.error == f"its process died three times while it ran, the last time with {how}"
        assert agent.stderr.count(f"task {failed.number}'s process died ({how}): a crash of that task") == 3
    fleet.ctl("reload_one_fail_task", "0", "100")
    fleet.wait_for(lambda books: books.failed == 3 and books.claimed == 0)
    assert agent.stderr.count("task 100's process died") == 6, "a reload gives it three more"
    stop(agent)


def test_tasks_may_do_to_their_process_what_they_like(fleet):
    job(
        fleet,
        """
import locale

def recurse():
    return recurse()

WAYS = {
    "read stdin": lambda: repr(sys.stdin.read()),
    "close stdin": lambda: (sys.stdin.close(), os.close(0), "closed")[-1],
    "change the locale": lambda: locale.setlocale(locale.LC_ALL, "C") and "changed",
    "change the directory": lambda: os.chdir("/") or "changed",
    "print": lambda: [print("spam" * 20_000) for _ in range(10)] and "printed",
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: signal.raise_signal(signal.SIGINT) or "went on",
    "raise KeyboardInterrupt": lambda: exec("raise KeyboardInterrupt"),
    "recurse": recurse,
    "fork and return twice": lambda: os.fork() and "returned",
    "return a lot": lambda: b"x" * 3_000_000,
}

def tasks():
    yield from WAYS

def task_function(task):
    return WAYS[task]()
""",
    )
    fleet.serve("--lease", "600", "--retries", "0")
    agent = fleet.agent(*PROCESS)

    fleet.wait_until_over(11)

    assert {failed.task: failed.error_type for failed in fleet.failed()} == {
        "exit": "SystemExit", "raise KeyboardInterrupt": "KeyboardInterrupt", "recurse": "RecursionError",
    }  # fmt: skip
    values = [recorded.value for recorded in fleet.results()]
    lot = values.pop()
    assert values == ["''", "closed", "changed", "changed", "printed", "went on", "returned"]
    assert len(lot) == 3_000_000
    stop(agent)
    assert agent.stdout.count("spam") == 200_000
    assert " died " not in agent.stderr


def test_what_a_task_left_running_neither_keeps_its_slot_nor_outlives_its_process(fleet):
    job(
        fleet,
        """
def tasks():
    yield from ["leave one behind", *range(20)]

def task_function(task):
    if task == "leave one behind" and not Path(FOLDER, "grandchild").exists():
        if child := os.fork():
            note("grandchild", child)
            os._exit(1)
        time.sleep(600)
    return task
""",
    )
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)

    results = fleet.expect_each_once(["leave one behind", *range(20)])

    assert {recorded.number: recorded.crashes for recorded in results if recorded.crashes} == {0: 1}
    assert not is_running(int(noted(fleet, "grandchild")))
    stop(agent)


# --- Tasks that do not let go of the GIL -------------------------------------------------------------------

HOLD = """
import ctypes

def tasks():
    yield from ["hold", *range(20)]

def task_function(task):
    if task == "hold" and not Path(FOLDER, "held").exists():
        note("held", os.getpid())
        ctypes.PyDLL(None).usleep(5_000_000)
    return task
"""


def test_an_agent_in_process_mode_reports_while_a_task_holds_the_gil_beyond_the_lease(fleet):
    job(fleet, HOLD)
    fleet.serve("--lease", "2")
    agent = fleet.agent(*PROCESS)

    results = fleet.expect_each_once(["hold", *range(20)])

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert "declared dead" not in agent.stderr
    stop(agent)


def test_a_thread_that_holds_the_gil_beyond_the_lease_is_recovered_from_and_the_log_names_process_mode(fleet):
    job(fleet, HOLD)
    fleet.serve("--lease", "2")
    holder = fleet.agent("--device", "0")
    noted(fleet, "held")
    other = fleet.agent("--device", "1")

    results = fleet.expect_each_once(["hold", *range(20)])

    assert {recorded.number: recorded.crashes for recorded in results}[0] == 1
    wait_for_text(holder, "declared dead for want of reports")
    wait_for_text(holder, "with --kind process the agent goes on reporting")
    stop(other)


# --- Ends --------------------------------------------------------------------------------------------------

LONG = """
import subprocess

def tasks():
    yield "long"

def task_function(task):
    note("began", f"{os.getpid()} {subprocess.Popen(['sleep', '600']).pid}")
    wait_for("release")
    return task
"""


def begin_a_long_task(fleet: Fleet) -> tuple[Program, list[int]]:
    """The agent, and the processes of the task that it runs."""
    job(fleet, LONG)
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)
    return agent, [int(pid) for pid in noted(fleet, "began").split()]


def test_children_and_what_they_started_die_with_an_agent_that_is_killed(fleet, wait_until):
    agent, pids = begin_a_long_task(fleet)
    assert all(map(is_running, pids))

    agent.kill()

    wait_until(lambda: not any(map(is_running, pids)))


def test_a_stopped_agent_lets_a_child_finish_its_task(fleet):
    agent, pids = begin_a_long_task(fleet)
    agent.terminate()
    wait_for_text(agent, "stopping: waiting for 1 running tasks")
    assert is_running(pids[0])

    (fleet.folder / "release").touch()

    assert agent.wait() == 0, agent
    fleet.expect_each_once(["long"])


def test_an_agent_stopped_twice_kills_its_children_and_hands_their_tasks_back(fleet):
    agent, pids = begin_a_long_task(fleet)
    agent.terminate()
    wait_for_text(agent, "stopping: waiting for ")

    agent.terminate()

    assert agent.wait() == 1, agent
    assert "stopped; 1 tasks handed back" in agent.stderr
    assert not any(map(is_running, pids))
    assert fleet.waiting_counts() == {0: (0, 0)}
    assert fleet.books().claimed == 0


def test_whoever_stops_child_and_agent_together_makes_no_crash_of_it(fleet):
    """As systemd does, which signals every process of a service."""
    agent, pids = begin_a_long_task(fleet)

    os.kill(pids[0], signal.SIGTERM)
    agent.terminate()

    assert agent.wait() == 0, agent
    assert fleet.waiting_counts() == {0: (0, 0)}


def test_a_child_hears_no_ctrl_c(fleet):
    agent, pids = begin_a_long_task(fleet)
    assert os.getpgid(pids[0]) not in (os.getpgid(agent.pid), os.getpgid(0))

    os.kill(pids[0], signal.SIGINT)
    (fleet.folder / "release").touch()

    fleet.expect_each_once(["long"])
    stop(agent)


# --- Children ----------------------------------------------------------------------------------------------


def test_a_child_is_replaced_after_as_many_tasks_as_were_allowed(fleet):
    job(
        fleet,
        """
def tasks():
    yield from range(100)

def task_function(task):
    return os.getpid()
""",
    )
    fleet.serve("--capacity", "100")
    agent = fleet.agent(*PROCESS, "--concurrency", "2", "--max-tasks-per-child", "30")

    fleet.wait_until_over(100)

    runs = Counter(recorded.value for recorded in fleet.results())
    assert max(runs.values()) <= 30
    assert len(runs) >= 4
    assert agent.pid not in runs
    stop(agent)


def test_what_waits_behind_a_long_task_in_a_child_goes_to_another(fleet):
    job(
        fleet,
        """
def tasks():
    yield from range(1_000)

def task_function(task):
    if task == 500:
        wait_for("release")
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "1000")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")

    fleet.wait_for(lambda books: books.done == 999)

    (fleet.folder / "release").touch()
    fleet.expect_each_once(list(range(1_000)))
    stop(agent)


def test_an_agent_whose_children_cannot_start_keeps_no_task_and_tries_again(fleet):
    job(
        fleet,
        """
if "redis" not in sys.modules and not Path(FOLDER, "mended").exists():
    raise RuntimeError("no licence here")

def tasks():
    yield from range(5)

def task_function(task):
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)
    wait_for_text(agent, "a child process could not start (JobError: ")
    assert "no licence here" in agent.stderr
    assert fleet.books().waiting == 5

    (fleet.folder / "mended").touch()

    fleet.expect_each_once(list(range(5)))
    stop(agent)


def test_a_child_runs_save_functions_coroutines_and_current_task(fleet):
    job(
        fleet,
        """
from worker_agent import current_task

def tasks():
    yield from ["a", "b"]

async def task_function(task):
    return task.upper()

def save_function(result):
    note(result, f"{current_task().number} {current_task().device} {current_task().channel}")
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)

    books = fleet.wait_until_over(2)

    assert (books.done, fleet.results()) == (2, [])
    assert [noted(fleet, name) for name in "AB"] == ["0 0 0", "1 0 0"]
    stop(agent)


def test_local_agents_take_kind_timeout_and_concurrency(fleet, spawn):
    job(
        fleet,
        """
def tasks():
    yield "hang"
    yield from range(20)

def task_function(task):
    if task == "hang":
        time.sleep(600)
    return os.getpid()
""",
    )
    options = ["--kind", "process", "--timeout", "0.5", "--concurrency", "2"]
    server = fleet.serve("--local-agents", "1", "--retries", "0", "--until-done", *options)

    assert server.wait() == 0, server

    (failed,) = fleet.failed()
    assert failed.stage == "timeout"
    assert len(fleet.results()) == 20
    refused = spawn(["mutitask", "run", fleet.job_path, *options, "--headless"])
    assert refused.wait() == 2
    assert "--concurrency is for agents on this machine: add --local-agents N" in refused.stderr
