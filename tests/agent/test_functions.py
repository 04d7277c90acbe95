"""What task and save functions may do, and how MutiTask records it."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections import Counter, defaultdict

import pytest

from worker_agent import current_task
from worker_agent.protocol import list_item


def test_a_falsy_value_is_a_result_and_none_is_a_failure(bench):
    falsy = [0, "", [], False, 0.0, {}, b"", None]

    outcome = bench.run(falsy, lambda task: task)

    assert outcome.values == falsy[:-1]
    assert [type(value) for value in outcome.values] == [type(value) for value in falsy[:-1]]
    (failed,) = outcome.failed
    assert (failed.number, failed.stage, failed.error) == (7, "run", "the task function returned None")


def test_an_exception_is_kept_with_its_type_its_message_and_the_users_own_frames(bench):
    def deeper(task):
        raise LookupError(f"nothing under {task!r}")

    def task_function(task):
        return deeper(task)

    (failed,) = bench.run(["a key"], task_function).failed

    assert (failed.stage, failed.error_type, failed.error) == ("run", "LookupError", "nothing under 'a key'")
    assert failed.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert failed.traceback.endswith("LookupError: nothing under 'a key'\n")
    assert "in task_function" in failed.traceback
    assert "in deeper" in failed.traceback
    assert "worker_agent" not in failed.traceback
    assert failed.device == 0


@pytest.mark.parametrize("style", ["plain", "async"])
def test_any_exception_of_a_task_fails_that_task_alone(bench, style):
    def endless(depth):
        return endless(depth + 1) + 1

    class Hostile(Exception):
        def __str__(self):
            raise ValueError("no text")

    def act(task):
        match task:
            case "exit":
                sys.exit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "recursion":
                return endless(0)
            case "memory":
                return bytearray(1 << 60)
            case "cancelled":
                raise asyncio.CancelledError
            case "hostile":
                raise Hostile
            case "group":
                raise BaseExceptionGroup("several", [ValueError("1"), SystemExit(2)])
        return task

    async def act_later(task):
        await asyncio.sleep(0)
        return act(task)

    wild = {
        "exit": "SystemExit",
        "interrupt": "KeyboardInterrupt",
        "recursion": "RecursionError",
        "memory": "MemoryError",
        "cancelled": "CancelledError",
        "hostile": "Hostile",
        "group": "BaseExceptionGroup",
    }
    items = [part for name in wild for part in (name, f"after {name}")]

    outcome = bench.run(items, act if style == "plain" else act_later, retries=1)

    assert {failed.task: failed.error_type for failed in outcome.failed} == wild
    assert {failed.stage for failed in outcome.failed} == {"run"}
    assert {failed.runs for failed in outcome.failed} == {2}
    assert outcome.values == [f"after {name}" for name in wild]


def test_a_result_that_cannot_be_packed_fails_its_task_and_names_the_type(bench):
    outcome = bench.run([1, 2], lambda task: (lambda: task) if task == 1 else task)

    (failed,) = outcome.failed
    assert (failed.number, failed.stage) == (0, "result")
    assert "function" in failed.error
    assert outcome.values == [2]


def test_a_body_that_does_not_unpack_fails_without_a_retry_and_other_tasks_run(bench):
    runs = []
    bench.serve(range(5), autostart=False)
    bench.wait_for(lambda counters: counters.exhausted and counters.waiting == 5)
    item = bench.client.lindex(bench.at.waiting, 2)
    bench.client.lset(bench.at.waiting, 2, item[: list_item.HEADER_BYTES] + b"\xc1 is never used in msgpack")
    bench.agent(lambda task: runs.append(task) or task)
    bench.commands.start_all()

    outcome = bench.outcome()

    (failed,) = outcome.failed
    assert (failed.number, failed.stage, failed.runs) == (2, "decode", 1)
    assert outcome.values == runs == [0, 1, 3, 4]


def test_a_failing_task_runs_four_times_and_keeps_the_reason_of_its_last_run(bench):
    runs = Counter()

    def task_function(task):
        runs[task] += 1
        if task == "heals" and runs[task] == 4:
            return "well"
        raise ValueError(f"run {runs[task]}")

    outcome = bench.run(["heals", "fails"], task_function)

    assert runs == {"heals": 4, "fails": 4}
    assert outcome.values == ["well"]
    assert outcome.results[0].attempt == 3
    (failed,) = outcome.failed
    assert (failed.runs, failed.error) == (4, "run 4")
    assert bench.client.hlen(bench.at.reasons) == 1, "the reasons of a done task are deleted"


def test_no_retries_means_one_run(bench):
    runs = []

    outcome = bench.run(["once"], lambda task: runs.append(task), retries=0)

    assert runs == ["once"]
    assert outcome.failed[0].runs == 1


def test_a_failed_task_waits_for_the_retry_delay(bench):
    def now_ms():
        seconds, micros = bench.client.time()
        return seconds * 1000 + micros / 1000

    runs = defaultdict(list)

    def task_function(task):
        runs[task].append(now_ms())
        if task == "fails" and len(runs[task]) == 1:
            raise ValueError
        return task

    outcome = bench.run(["fails", "other"], task_function, retry_delay_ms=300)

    assert outcome.values == ["fails", "other"]
    first, second = runs["fails"]
    assert second - first >= 300
    assert runs["other"][0] < second, "other tasks run meanwhile"


def test_coroutine_functions_are_awaited_however_they_are_wrapped(bench):
    async def task_function(task, factor):
        await asyncio.sleep(0.001)
        return task * factor

    class Callable:
        async def __call__(self, task):
            await asyncio.sleep(0)
            return -task

    assert bench.run([1, 2], functools.partial(task_function, factor=3)).values == [3, 6]
    bench.stop()
    assert bench.run([1, 2], Callable()).values == [-1, -2]
    bench.stop()
    assert bench.run([1, 2], lambda task: task_function(task, 5)).values == [5, 10]


def test_coroutine_functions_share_one_loop_in_each_thread(bench):
    loops = defaultdict(set)

    async def task_function(task):
        loops[threading.get_ident()].add(id(asyncio.get_running_loop()))
        return task

    assert bench.run(range(50), task_function, concurrency=2).values == list(range(50))
    assert {len(ids) for ids in loops.values()} == {1}


@pytest.mark.parametrize("style", ["plain", "async"])
def test_a_save_function_gets_the_results_and_none_is_left_in_redis(bench, style):
    saved = []

    def save(result):
        saved.append(result)

    async def save_later(result):
        await asyncio.sleep(0)
        saved.append(result)

    outcome = bench.run(range(20), lambda task: {"task": task}, save if style == "plain" else save_later)

    assert sorted(result["task"] for result in saved) == list(range(20))
    assert outcome.counters.done == 20
    assert outcome.results == []
    assert not bench.client.exists(bench.at.results)


def test_a_save_function_that_raises_causes_a_retry_and_is_named_as_the_stage(bench):
    saves = Counter()

    def save(result):
        saves[result] += 1
        if result == "never" or saves[result] < 3:
            raise OSError(f"disk full at {result}")

    outcome = bench.run(["later", "never"], lambda task: task, save)

    assert saves == {"later": 3, "never": 4}
    assert (outcome.counters.done, outcome.counters.failed) == (1, 1)
    (failed,) = outcome.failed
    assert (failed.stage, failed.error_type, failed.error) == ("save", "OSError", "disk full at never")


def test_current_task_is_the_same_in_both_functions_and_counts_the_failed_runs(bench):
    seen, saved = [], []

    def task_function(task):
        seen.append(current_task())
        return task

    def save(result):
        saved.append(current_task())
        if len(saved) < 3:
            raise ValueError("again")

    bench.run(["x"], task_function, save)

    assert seen == saved
    assert [task.attempt for task in seen] == [0, 1, 2]
    assert len({task.id for task in seen}) == 1
    assert {(task.number, task.crashes, task.channel, task.device) for task in seen} == {(0, 0, 0, 0)}
    with pytest.raises(RuntimeError, match="only inside a task function"):
        current_task()
