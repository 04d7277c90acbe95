"""Retries, tasks' own options and rates, with real agents in threads and in processes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.snapshot import FailedDetail
from tests.agent.bench import NAME, Bench
from tests.agent.process_jobs import PROCESS, job
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until
from worker_agent.protocol.retry_policy import GiveUp, Retry
from worker_agent.protocol.task import Task


def details(bench: Bench) -> list[FailedDetail]:
    inspector = Inspector(bench.url, NAME)
    found = [inspector.failed_task(0, task.id) for task in bench.outcome().failed]
    return [detail for detail in found if detail is not None]


def test_a_task_that_asks_for_a_retry_runs_again_after_its_delay(bench: Bench) -> None:
    ran: list[float] = []

    def task_function(task: object) -> object:
        ran.append(time.monotonic())
        if len(ran) == 1:
            raise Retry("busy", after=0.3)
        return task

    outcome = bench.run(["once"], task_function, policies={"retry": Retry(never=Exception).encode()})
    assert outcome.values == ["once"] and ran[1] - ran[0] >= 0.3


def test_a_task_that_gives_up_runs_once(bench: Bench) -> None:
    def task_function(task: object) -> object:
        raise GiveUp("404")

    bench.run(["gone"], task_function)
    [detail] = details(bench)
    assert (detail.task.error_type, detail.task.error, detail.task.runs) == ("GiveUp", "404", 1)
    assert detail.failed_runs[-1].given_up == "the task function raised GiveUp"


def test_the_policy_sees_the_classes_of_an_error(bench: Bench) -> None:
    def task_function(task: str) -> object:
        raise {"value": ValueError, "key": KeyError, "index": IndexError}[task](task)

    policy = Retry(times=2, only=(LookupError, ValueError), never=IndexError)
    bench.run(["value", "key", "index"], task_function, policies={"retry": policy.encode()})
    assert [(detail.task.runs, detail.failed_runs[-1].given_up) for detail in details(bench)] == [
        (3, "no retries were left"),
        (3, "no retries were left"),
        (1, "the retry policy never retries this error"),
    ]


class Hostile(type):
    """A metaclass whose classes have no names."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__", "__mro__"):
            raise RuntimeError("no")
        return super().__getattribute__(name)


def test_an_error_whose_class_cannot_be_named_fails_its_task_only(bench: Bench) -> None:
    class Nameless(Exception, metaclass=Hostile):
        pass

    def task_function(task: int) -> int:
        if task == 1:
            raise Nameless("text")
        return task

    outcome = bench.run(range(3), task_function, retries=1)
    assert outcome.values == [0, 2] and [task.error for task in outcome.failed] == ["text"]


def test_a_function_that_always_fails_is_told_before_other_tasks_have_run(bench: Bench) -> None:
    ran: list[int] = []

    def task_function(task: int) -> int:
        ran.append(task)
        if task == 0:
            raise ValueError("always")
        return task

    bench.run(range(30_000), task_function, capacity=50_000)
    last = max(place for place, task in enumerate(ran) if task == 0)
    assert ran.count(0) == 4 and last < 15_000


# A task's own options


@pytest.mark.parametrize("agents_limit", [None, 60.0])
def test_a_tasks_own_time_limit_ends_its_run_and_no_other(bench: Bench, agents_limit: float | None) -> None:
    release = threading.Event()

    def task_function(task: str) -> str:
        if task == "hangs":
            release.wait(30)
        return task

    bench.serve([Task("hangs", timeout=0.2, retries=0), "other", Task("quick", timeout=30)])
    bench.agent(task_function, concurrency=2, timeout=agents_limit)
    outcome = bench.outcome()
    release.set()
    assert outcome.values == ["other", "quick"]
    [failed] = outcome.failed
    assert failed.stage == "timeout" and failed.runs == 1
    assert failed.error == "it ran longer than the limit of 0.2 s (the task's own timeout)"


def test_a_delayed_task_runs_when_it_is_due_and_the_others_before_it(bench: Bench) -> None:
    outcome = bench.run(
        [Task("late", delay=0.5), "early"], lambda task: (task, time.monotonic()), concurrency=2
    )
    (late, late_at), (early, early_at) = outcome.values
    assert (late, early) == ("late", "early") and late_at - early_at >= 0.4


OPTIONS = """
from mutitask_tui import GiveUp, Retry, Task

retry = Retry(times=2, never=ZeroDivisionError)

class Flaky(Exception):
    pass

def tasks():
    yield Task("hangs", timeout=0.3, retries=0)
    yield Task("once", retries=0)
    yield "gives up"
    yield "never"
    yield "asks"
    yield "twice"

def task_function(task):
    if task == "hangs":
        time.sleep(60)
    elif task == "once":
        raise Flaky(task)
    elif task == "gives up":
        raise GiveUp(task)
    elif task == "never":
        1 / 0
    elif task == "asks" and not Path(FOLDER, "asked").exists():
        note("asked", "")
        raise Retry(after=0.1)
    elif task == "twice":
        raise Flaky(task)
    return task
"""


@pytest.mark.parametrize("kind", [PROCESS, ("--device", "0")])
def test_every_kind_of_agent_keeps_policies_and_options(fleet: Fleet, kind: tuple[str, ...]) -> None:
    job(fleet, OPTIONS)
    fleet.serve()
    fleet.agent(*kind)
    fleet.wait_for(lambda b: b.exhausted and b.open == 0)
    failed = {task.task: (task.runs, task.error_type) for task in fleet.failed()}
    assert failed == {
        "hangs": (1, "TimeoutError"), "once": (1, "Flaky"), "gives up": (1, "GiveUp"),
        "never": (1, "ZeroDivisionError"), "twice": (3, "Flaky"),
    }  # fmt: skip


# Rates


def test_agents_keep_a_rate_together_and_sleep_between_tasks(bench: Bench) -> None:
    ran: list[float] = []

    def task_function(task: int) -> int:
        ran.append(time.monotonic())
        return task

    bench.serve(range(60), rates={"rate:0": "20 1000"}, devices=2)
    for device in range(2):
        bench.agent(task_function, device=device, concurrency=2)
    assert len(bench.outcome().results) == 60
    took = sorted(ran)[-1] - sorted(ran)[0]
    # A burst of 20 at once, then 40 tasks at 20/s.
    assert took == pytest.approx(2.0, rel=0.15)
    sessions = [agent.state.session for agent in bench.agents]
    actors = [bench.keys.actor(session.actor.id) for session in sessions if session is not None]
    calls = sum(int(bench.client.hget(actor, "number")) for actor in actors)
    assert calls < 60 * 6, "agents poll for tasks that the rate holds back"


def test_another_channel_goes_on_while_a_rate_holds_one_back(bench: Bench) -> None:
    bench.serve(range(3), range(50), rates={"rate:0": "1 3600000"})
    bench.agent(lambda task: task, concurrency=2)
    bench.wait_for(lambda b: b.done == 1)
    bench.wait_for(lambda _: len(bench.values(1)) == 50)
    assert bench.counters().waiting == 2


@pytest.mark.parametrize("served", [None, (0,)])
def test_a_new_rate_is_followed_at_once(bench: Bench, served: tuple[int, ...] | None) -> None:
    bench.serve(range(30), [], rates={"rate:0": "1 3600000"})
    bench.agent(lambda task: task, served=served)
    bench.wait_for(lambda b: b.done == 1)
    bench.commands.reset_rate("off", 0)
    bench.wait_for(lambda b: b.done == 30, timeout=5)


def test_a_paused_agent_does_not_wait_for_tokens_of_a_channel_that_is_limited(bench: Bench) -> None:
    bench.serve(range(5), rates={"rate:0": "1 3600000"})
    agent = bench.agent(lambda task: task)
    bench.wait_for(lambda b: b.done == 1)
    bench.commands.pause_one(0)
    wait_until(lambda: agent.state.paused, what="the agent is paused")
    wait_until(lambda: not agent._claim_loop._long_poll.polling, what="no wait goes on")
    bench.commands.reset_rate("off", 0)
    bench.client.delete(bench.at.token)
    bench.client.lpush(bench.at.token, "1")
    assert bench.counters().waiting == 4 and not agent._claim_loop._long_poll.polling
    bench.commands.start_one(0)
    bench.wait_for(lambda b: b.done == 5)
