"""`--kind process`: whatever a task does to its process, the agent continues, and no other task is affected."""

from __future__ import annotations

import os
import random
import signal

from tests.agent.process_jobs import (
    PROCESS,
    children_of,
    expect_all_recorded,
    job,
    kill_at_random,
    noted,
    stop,
)
from tests.agent.test_timeouts import is_running

KILLS = 15


def test_a_task_that_kills_its_process_fails_as_crashed_and_all_other_tasks_run(fleet):
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
        assert (
            agent.stderr.count(
                f"task {failed.number}'s process died ({how}): this counts as a crash of the task"
            )
            == 3
        )
    fleet.ctl("reload_one_fail_task", "0", "100")
    fleet.wait_for(lambda counters: counters.failed == 3 and counters.claimed == 0)
    assert agent.stderr.count("task 100's process died") == 6, "a reload allows three more crashes"
    stop(agent)


def test_tasks_may_do_anything_to_their_process(fleet):
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


def test_a_process_that_a_task_left_running_neither_blocks_the_slot_nor_outlives_the_child(fleet):
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


def test_killing_children_at_random_moments_loses_no_task_and_records_none_twice(fleet, wait_until):
    """The tasks are short. Behind a longer one now and then, tasks are taken back from a child.

    Each fifth time it hits the fork server.
    """
    count, chance = 3_000, random.Random(7)
    job(
        fleet,
        f"""
def tasks():
    yield from range({count})

def task_function(task):
    if task % 97 == 0:
        time.sleep(task % 5 * 0.03)
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "500")
    agent = fleet.agent(*PROCESS, "--concurrency", "2")

    kill_at_random(fleet, agent, chance, count, kills=KILLS, servers_every=5)

    results, failed = expect_all_recorded(fleet, count)
    assert {recorded.attempt for recorded in results} == {0}
    # One task may be hit three times by chance. But each kill counts for one task only.
    assert {task.stage for task in failed} <= {"crashed"}
    assert sum(recorded.crashes for recorded in results) + 3 * len(failed) <= KILLS
    stop(agent)


def test_an_idle_child_that_dies_is_replaced_and_no_task_counts_a_crash(fleet, wait_until):
    job(
        fleet,
        """
def tasks():
    yield "first"
    wait_for("more")
    yield "second"

def task_function(task):
    return task
""",
    )
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)
    fleet.wait_for(lambda counters: counters.done == 1)
    (child,) = children_of(agent)

    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_running(child))
    (fleet.folder / "more").touch()

    results = fleet.expect_each_once(["first", "second"])
    assert {recorded.crashes for recorded in results} == {0}
    stop(agent)
