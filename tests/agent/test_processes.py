"""`--kind process`: how agents and their child processes start, run tasks and end."""

from __future__ import annotations

import os
import signal
from collections import Counter

from tests.agent.process_jobs import PROCESS, job, noted, stop
from tests.agent.test_timeouts import is_running
from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program
from worker_agent.execution.child_process import ChildProcess, setup_of
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.settlements import DONE
from worker_agent.settings import Settings

# How agents and children end

LONG = """
import subprocess

def tasks():
    yield "long"

def task_function(task):
    note("started", f"{os.getpid()} {subprocess.Popen(['sleep', '600']).pid}")
    wait_for("release")
    return task
"""


def start_a_long_task(fleet: Fleet) -> tuple[Program, list[int]]:
    """Start an agent with a long task. Return the agent, and the ids of the task's processes."""
    job(fleet, LONG)
    fleet.serve("--lease", "600")
    agent = fleet.agent(*PROCESS)
    return agent, [int(pid) for pid in noted(fleet, "started").split()]


def test_children_and_their_subprocesses_die_with_a_killed_agent(fleet, wait_until):
    agent, pids = start_a_long_task(fleet)
    assert all(map(is_running, pids))

    agent.kill()

    wait_until(lambda: not any(map(is_running, pids)))


def test_a_stopped_agent_lets_a_child_finish_its_task(fleet):
    agent, pids = start_a_long_task(fleet)
    agent.terminate()
    wait_for_text(agent, "stopping: waiting for 1 running tasks")
    assert is_running(pids[0])

    (fleet.folder / "release").touch()

    assert agent.wait() == 0, agent
    fleet.expect_each_once(["long"])


def test_an_agent_stopped_twice_kills_its_children_and_hands_their_tasks_back(fleet):
    agent, pids = start_a_long_task(fleet)
    agent.terminate()
    wait_for_text(agent, "stopping: waiting for ")

    agent.terminate()

    assert agent.wait() == 1, agent
    assert "stopped; 1 tasks handed back" in agent.stderr
    assert not any(map(is_running, pids))
    assert fleet.waiting_counts() == {0: (0, 0)}
    assert fleet.counters().claimed == 0


def test_a_signal_to_child_and_agent_together_counts_no_crash(fleet):
    """systemd signals every process of a service."""
    agent, pids = start_a_long_task(fleet)

    os.kill(pids[0], signal.SIGTERM)
    agent.terminate()

    assert agent.wait() == 0, agent
    assert fleet.waiting_counts() == {0: (0, 0)}, agent.stderr


def test_a_child_ignores_ctrl_c(fleet):
    agent, pids = start_a_long_task(fleet)
    assert os.getpgid(pids[0]) not in (os.getpgid(agent.pid), os.getpgid(0))

    os.kill(pids[0], signal.SIGINT)
    (fleet.folder / "release").touch()

    (result,) = fleet.expect_each_once(["long"])
    assert result.attempt == 0
    stop(agent)


# What children run


def test_a_child_is_replaced_after_its_maximum_number_of_tasks(fleet):
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


def test_only_tasks_that_have_not_started_are_taken_back_from_a_child(fleet, wait_until):
    job(
        fleet,
        """
def task_function(task):
    note(f"started-{task}", "")
    if task == 1:
        wait_for("release")
    return task
""",
    )
    settings = Settings(
        lambda: "", "", 0, None, 1, lambda _channel: (print, None), kind="process", job=str(fleet.job_path)
    )
    items = [list_item.header("aRunsId0", number) + wire.pack(number) for number in range(4)]
    child = ChildProcess(setup_of(settings, 0, [0]))
    try:
        assert child.load_functions() == ""
        child.give([(item, 0) for item in items])
        wait_until((fleet.folder / "started-1").exists)

        assert child.take_back(4) == 2
        assert child.take_back(4) == 0

        (fleet.folder / "release").touch()
        answers = []
        while None not in answers:
            answers += child.receive(None)
        assert [answer and answer[0] for answer in answers] == [DONE, DONE, None]
        assert sorted(path.name for path in fleet.folder.glob("started-?")) == ["started-0", "started-1"]
    finally:
        child.kill()
        assert child.reap() == -signal.SIGKILL


def test_a_child_takes_more_tasks_than_its_pipes_hold_while_it_runs_others(fleet):
    """Agent and child would wait for each other if the agent only wrote: the child waits until its answers are read."""
    job(fleet, "def task_function(task):\n    return task\n")
    settings = Settings(
        lambda: "", "", 0, None, 1, lambda _channel: (print, None), kind="process", job=str(fleet.job_path)
    )
    body = wire.pack(bytes(200_000))
    items = [(list_item.header("aRunsId0", number) + body, 0) for number in range(40)]
    child = ChildProcess(setup_of(settings, 0, [0]))
    try:
        assert child.load_functions() == ""

        child.give(items[:20])
        child.give(items[20:])

        answers = []
        while answers.count(None) < 2:
            answers += child.receive(None)
        assert len(answers) == 42
    finally:
        child.kill()
        child.reap()


def test_tasks_that_a_child_holds_beside_a_running_batch_return_from_it(fleet, wait_until):
    job(
        fleet,
        """
def task_function(task):
    note(f"started-{task}", "")
    wait_for("release")
    return task
""",
    )
    settings = Settings(
        lambda: "", "", 0, None, 1, lambda _channel: (print, None), kind="process", job=str(fleet.job_path)
    )
    items = [(list_item.header("aRunsId0", number) + wire.pack(number), 0) for number in range(5)]
    child = ChildProcess(setup_of(settings, 0, [0]))
    try:
        assert child.load_functions() == ""
        child.give(items[:2])
        child.give(items[2:])
        wait_until((fleet.folder / "started-0").exists)

        assert child.take_back(3) == 3

        (fleet.folder / "release").touch()
        answers = []
        while answers.count(None) < 2:
            answers += child.receive(None)
        assert [answer and answer[0] for answer in answers] == [DONE, DONE, None, None]
        assert sorted(path.name for path in fleet.folder.glob("started-?")) == ["started-0", "started-1"]
    finally:
        child.kill()
        child.reap()


def test_tasks_behind_a_long_task_in_a_child_go_to_another_child(fleet):
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

    fleet.wait_for(lambda counters: counters.done == 999)

    (fleet.folder / "release").touch()
    fleet.expect_each_once(list(range(1_000)))
    stop(agent)


def test_a_paused_agent_hands_back_tasks_that_its_children_have_not_started(fleet):
    job(
        fleet,
        """
def tasks():
    yield from range(1_000)

def task_function(task):
    if task == 500:
        note("reached", "")
        wait_for("release")
    return task
""",
    )
    fleet.serve("--lease", "600", "--capacity", "1000")
    agent = fleet.agent(*PROCESS)
    noted(fleet, "reached")

    fleet.ctl("pause_one", "0")

    fleet.wait_for(lambda counters: counters.claimed == 1 and counters.waiting == 499)
    (fleet.folder / "release").touch()
    fleet.wait_for(lambda counters: counters.claimed == 0 and counters.done == 501)
    fleet.ctl("start_one", "0")
    fleet.expect_each_once(list(range(1_000)))
    stop(agent)


def test_an_agent_whose_children_cannot_start_keeps_no_task_and_retries(fleet):
    job(
        fleet,
        """
if len(sys.argv) == 1 and not Path(FOLDER, "repaired").exists():
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
    assert fleet.counters().waiting == 5

    (fleet.folder / "repaired").touch()

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

    counters = fleet.wait_until_over(2)

    assert (counters.done, fleet.results()) == (2, [])
    assert [noted(fleet, name) for name in "AB"] == ["0 0 0", "1 0 0"]
    stop(agent)


def test_local_agents_accept_kind_timeout_and_concurrency(fleet, spawn):
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
    server = fleet.serve("--local-agents", "1", "--retries", "0", "--until-done", "--failed-ok", *options)

    assert server.wait() == 0, server

    (failed,) = fleet.failed()
    assert failed.stage == "timeout"
    assert len(fleet.results()) == 20
    refused = spawn(["mutitask", "run", fleet.job_path, *options, "--headless"])
    assert refused.wait() == 2
    assert "--concurrency is for agents on this machine: add --local-agents N" in refused.stderr
