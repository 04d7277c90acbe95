"""`--timeout`: a run that takes too long fails, and another thread or process takes its slot."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from tests.crashes.fleet import wait_for_text
from worker_agent.protocol.identity import is_gone, process_of

TIMED_OUT = "it ran longer than the limit of 0.3 s (--timeout)"


class Gate:
    """A task function that lets the tasks called `shut` wait until the gate is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = 0

    def __call__(self, task):
        if task == "shut":
            self.reached += 1
            assert self.opened.wait(60)
        return task


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()


def log_count(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_run_over_its_time_limit_fails_at_stage_timeout_and_other_tasks_run(bench, gate):
    bench.serve([*range(300), "shut", *range(300)], retries=1)
    bench.agent(gate, concurrency=2, timeout=0.3)

    outcome = bench.outcome()

    assert outcome.values == [*range(300), *range(300)]
    (failed,) = outcome.failed
    assert (failed.number, failed.stage, failed.error_type) == (300, "timeout", "TimeoutError")
    assert failed.error == TIMED_OUT
    assert gate.reached == 2, "the task was retried, as after any failed run"


def test_the_outcome_of_an_abandoned_run_is_dropped_and_logged_once(bench, gate, caplog, wait_until):
    caplog.set_level(logging.INFO, "worker_agent")
    bench.serve(["shut", "shut", *range(20)], retries=0)
    agent = bench.agent(gate, concurrency=2, timeout=0.3)
    bench.wait_for(lambda counters: counters.failed == 2 and counters.done == 20)

    gate.opened.set()

    wait_until(lambda: not [t for t in threading.enumerate() if t.name in ("slot-0", "slot-1")])
    counters = bench.counters()
    assert (counters.done, counters.failed, agent.in_flight.done, agent.in_flight.errors) == (20, 2, 20, 2)
    assert log_count(caplog, "an abandoned run has ended: its outcome is dropped") == 1


def test_there_are_at_most_twice_as_many_hanging_threads_as_the_concurrency(bench, gate, caplog, wait_until):
    bench.serve([*["shut"] * 5, *range(20)], retries=0)
    agent = bench.agent(gate, timeout=0.3)
    bench.wait_for(lambda counters: counters.failed == 2)
    wait_until(
        lambda: log_count(
            caplog, "this agent takes no more tasks until one of them ends; --kind process kills"
        )
    )

    wait_until(lambda: bench.claimed_by(agent) == 0, what="queued tasks were handed back")

    assert gate.reached == 2
    assert agent.in_flight.slots == 0
    gate.opened.set()
    outcome = bench.outcome()
    assert len(outcome.failed) == 2
    assert outcome.values == [*["shut"] * 3, *range(20)]
    assert agent.in_flight.slots == 1


def test_a_short_limit_does_not_affect_shorter_runs(bench):
    bench.serve([0.001] * 500)
    bench.agent(lambda task: time.sleep(task) or task, concurrency=4, timeout=0.5)

    outcome = bench.outcome()

    assert len(outcome.values) == 500


HANGS = """
import os, signal, time
from pathlib import Path

def tasks():
    yield from [*range(200), "hang", "deaf", *range(200)]

def task_function(task):
    if not isinstance(task, str):
        return task
    if task == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Path(FOLDER, task).open("a") as ran:
        print(os.getpid(), file=ran)
    time.sleep(600)
"""


def test_a_process_that_hangs_is_killed_and_replaced(fleet):
    fleet.job(HANGS)
    fleet.serve("--lease", "600", "--capacity", "500", "--retries", "1")
    agent = fleet.agent("--device", "0", "--kind", "process", "--concurrency", "2", "--timeout", "0.3")

    counters = fleet.wait_until_over(402)

    assert (counters.done, counters.failed) == (400, 2)
    for failed in fleet.failed():
        assert (failed.stage, failed.error_type, failed.error) == ("timeout", "TimeoutError", TIMED_OUT)
    for task in ("hang", "deaf"):
        ran = [int(line) for line in (fleet.folder / task).read_text().split()]
        assert len(ran) == len(set(ran)) == 2, "one run and one retry, each in a process of its own"
        assert not any(is_running(pid) for pid in ran)
    assert {(recorded.attempt, recorded.crashes) for recorded in fleet.results()} == {(0, 0)}
    agent.terminate()
    assert agent.wait() == 0, agent


def is_running(pid: int) -> bool:
    """Return whether a process with this id runs and is no zombie."""
    identity = process_of(pid)
    return bool(identity.start) and not is_gone(identity)


def test_a_stopped_agent_waits_for_a_hanging_run_no_longer_than_its_time_limit(fleet):
    fleet.job(HANGS.replace("*range(200), ", ""))
    fleet.serve("--lease", "600", "--retries", "0")
    agent = fleet.agent("--device", "0", "--timeout", "1")
    fleet.wait_for(lambda _: (fleet.folder / "hang").exists())

    agent.terminate()

    wait_for_text(agent, "stopping: waiting for 1 running tasks")
    assert agent.wait(20) == 0, agent
    (failed,) = fleet.failed()
    assert (failed.task, failed.stage) == ("hang", "timeout")
    assert fleet.counters().claimed == 0
