"""What `current_task()` offers beside the task's numbers: progress, a logger, `cancelled` and `deadline`."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mutitask_tui.server.snapshot import RunningTask
from tests.agent.bench import Bench
from tests.agent.process_jobs import PROCESS, job, noted
from worker_agent import CurrentTask, current_task
from worker_agent.protocol.task import Task


def reported(bench: Bench) -> tuple[RunningTask, ...]:
    return bench._reader.snapshot().devices[0].tasks


def test_a_heartbeat_reports_progress(bench: Bench, wait_until: Any) -> None:
    release = threading.Event()

    def runs(task: object) -> object:
        current_task().progress(1, 4, "first")
        current_task().progress(3, 4.0, "third \ud800")
        assert release.wait(20)
        return task

    bench.serve(["a", "b"])
    bench.agent(runs)
    (task,) = wait_until(lambda: [t for t in reported(bench) if t.done == 3], what="the progress is reported")
    assert (task.text, task.channel, task.number) == ("a", 0, 0)
    assert (task.done, task.total, task.note, task.share) == (3, 4.0, "third \\ud800", 0.75)
    assert task.left_s == pytest.approx(task.seconds / 3)
    release.set()
    assert bench.outcome().counters.done == 2


def test_a_task_without_progress_reports_none(bench: Bench, wait_until: Any) -> None:
    release = threading.Event()
    bench.serve([1])
    bench.agent(lambda task: release.wait(20) and task)
    (task,) = wait_until(lambda: reported(bench), what="the task is reported")
    assert (task.done, task.total, task.note, task.line, task.share, task.left_s) == (
        None,
        None,
        "",
        "",
        None,
        None,
    )
    release.set()
    bench.outcome()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("1",), TypeError, "progress: done must be a number, not '1'"),
        ((True,), TypeError, "progress: done must be a number, not True"),
        ((None,), TypeError, "progress: done must be a number, not None"),
        ((1, "2"), TypeError, "progress: total must be a number, not '2'"),
        ((1, 2, None), TypeError, "progress: text must be a string, not None"),
        ((-1,), ValueError, r"progress: done must be from 0 to 10\*\*18, not -1"),
        ((float("nan"),), ValueError, "progress: done must be from 0"),
        ((1, float("inf")), ValueError, "progress: total must be from 0"),
        ((10**400,), ValueError, "progress: done must be from 0"),
    ],
)
def test_bad_progress_is_refused_in_one_sentence(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        CurrentTask("r" * 20, 0, 0, 0, 0, 0).progress(*arguments)


def test_deadline_is_the_end_of_the_time_limit(bench: Bench) -> None:
    seen: list[float | None] = []

    def runs(task: object) -> object:
        seen.append(current_task().deadline)
        return task

    bench.serve([Task(1, timeout=50), 2])
    bench.agent(runs, timeout=100.0)
    bench.outcome()
    own, default = seen
    assert own is not None and default is not None
    assert 0 < own - time.time() <= 50 < default - time.time() <= 100


def test_without_a_time_limit_there_is_no_deadline(bench: Bench) -> None:
    seen: list[object] = []
    bench.run([1], lambda task: seen.append((current_task().deadline, current_task().cancelled)) or task)
    assert seen == [(None, False)]


def test_a_thread_sees_that_its_run_is_cancelled(bench: Bench, wait_until: Any) -> None:
    cancelled = threading.Event()

    def runs(task: object) -> object:
        while not current_task().cancelled:
            time.sleep(0.005)
        cancelled.set()
        return task

    bench.serve([1])
    agent = bench.agent(runs)
    (task,) = wait_until(lambda: list(agent.in_flight.running.values()), what="the task runs")
    assert task.cancel_asked_by == "" and not cancelled.is_set()
    task.cancel_asked_by = "a person"
    assert cancelled.wait(20)
    bench.outcome()


def test_a_run_that_was_abandoned_at_its_limit_is_cancelled(bench: Bench) -> None:
    cancelled = threading.Event()

    def runs(task: object) -> object:
        while current_task().attempt == 0 and not current_task().cancelled:
            time.sleep(0.005)
        cancelled.set()
        return task

    bench.serve([1], policies={"retry": "0 0 2 600000 0 - -"})
    bench.agent(runs, timeout=0.1)
    assert cancelled.wait(20)
    assert bench.outcome().failed[0].stage == "timeout"


def test_each_of_many_runs_finds_its_own(bench: Bench, wait_until: Any) -> None:
    all_there = threading.Barrier(21)

    def runs(task: int) -> int:
        current_task().progress(task, 100)
        all_there.wait(20)
        all_there.wait(20)
        return task

    bench.serve(range(20))
    agent = bench.agent(runs, concurrency=20)
    all_there.wait(20)
    told = {task.progress for task in agent.in_flight.running.values()}
    assert told == {(number, 100, "") for number in range(20)}
    all_there.wait(20)
    bench.outcome()


SLOW = """
from worker_agent import current_task

def tasks():
    yield "slow"

def task_function(task):
    for done in range(1, 1001):
        current_task().progress(done, 1000, f"step {done}")
    note("deadline", current_task().deadline - time.time())
    wait_for("release")
    return task
"""


def test_a_child_process_tells_its_last_progress(fleet: Any, wait_until: Any) -> None:
    job(fleet, SLOW)
    fleet.serve()
    fleet.agent(*PROCESS, "--timeout", "100")
    assert 0 < float(noted(fleet, "deadline")) <= 100

    def told() -> object:
        tasks = fleet.device(0).tasks
        return tasks and (tasks[0].done, tasks[0].total, tasks[0].note) == (1000, 1000, "step 1000")

    wait_until(told, what="the last progress is reported")
    (fleet.folder / "release").touch()
    fleet.expect_each_once(["slow"])


def test_messages_do_not_hold_up_a_childs_time_limit(fleet: Any) -> None:
    job(fleet, """
from worker_agent import current_task

def tasks():
    yield 1

def task_function(task):
    done = 0
    while True:
        done += 1
        current_task().progress(done)
        print(done)
        time.sleep(0.01)
""")  # fmt: skip
    fleet.serve("--retries", "0")
    fleet.agent(*PROCESS, "--timeout", "0.5")
    fleet.wait_for(lambda counters: counters.failed == 1)
