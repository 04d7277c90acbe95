"""Retry policies, rates and tasks with options, from the job file and the command line to the FailChannel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from mutitask_tui import Server
from mutitask_tui.server.reader import Reader
from tests.cli.tools import mutitask, no_agents_left, write_job
from tests.support.programs import Program
from worker_agent import Retry, Task
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import RunPlan

__all__ = ["no_agents_left"]

Spawn = Callable[..., Program]

EACH_KIND = """
from worker_agent import GiveUp, Retry, Task, current_task

class Odd(Exception):
    pass

class Very(Odd):
    pass

def tasks():
    yield "always"
    yield "gives up"
    yield "never"
    yield "asks"
    yield Task("own retries", retries=1)
    yield Task("no retries", retries=0)

retry = Retry(times=2, never=(Odd,))

def task_function(task):
    if task == "gives up":
        raise GiveUp("404")
    if task == "never":
        raise Very("such are never retried")
    if task == "asks" and current_task().attempt == 0:
        raise Retry("busy", after=0.2)
    if task == "asks":
        return "done"
    raise ValueError(task)
"""


def run(spawn: Spawn, redis_url: str, name: str, job: Path, *options: str) -> Program:
    program = spawn(
        ["mutitask", "run", job, "--redis", redis_url, "--name", name, "--headless", "--until-done", "--failed-ok",
         "--autostart", "--local-agents", "1", *options],
    )  # fmt: skip
    assert program.wait(40) == 0, program
    return program


def failed(redis_url: str, name: str) -> dict[str, tuple[int, str]]:
    """Return each failed task's payload, with its runs and why it was given up."""
    lines = mutitask(
        "ctl", "export_fail_tasks", "-", "--redis", redis_url, "--name", name
    ).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert all(len(line["failed_runs"]) == line["runs"] for line in found)
    return {line["task"]: (line["runs"], line["given_up"]) for line in found}


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_job_says_what_is_retried_and_the_fail_channel_says_why_not(
    redis_url: str, spawn: Spawn, tmp_path: Path, kind: str
) -> None:
    run(spawn, redis_url, "kinds", write_job(tmp_path, EACH_KIND), "--kind", kind)
    assert failed(redis_url, "kinds") == {
        "always": (3, "no retries were left"),
        "gives up": (1, "the task function raised GiveUp"),
        "never": (1, "the retry policy never retries this error"),
        "own retries": (2, "no retries were left"),
        "no retries": (1, "no retries were left"),
    }
    (result,) = mutitask("results", "export", "--redis", redis_url, "--name", "kinds").lines
    assert (result["result"], result["attempt"]) == ("done", 1)


def test_an_option_replaces_that_value_in_the_jobs_policy(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, EACH_KIND)
    run(spawn, redis_url, "options", job, "--retries", "1", "--retry-delay", "0.05", "--retry-jitter", "0")
    found = failed(redis_url, "options")
    assert (found["always"][0], found["never"][0], found["own retries"][0]) == (2, 1, 2)
    record = next(r for r in Reader(redis_url, "options").failed_records(0, 0, 10) if r.value == "always")
    assert [reason.delay_ms for reason in record.reasons] == [50, None]


LISTS = """
from worker_agent import Retry
tasks = [iter("a"), iter("b"), iter("c")]
retry = [None, Retry(times=7, delay=4), None]
rates = ["10/s", None, "90/min"]
def task_function(task):
    return task
"""


def test_a_job_lists_a_policy_and_a_rate_for_each_channel(
    redis_url: str, client: redis.Redis, spawn: Spawn, tmp_path: Path
) -> None:
    run(spawn, redis_url, "lists", write_job(tmp_path, LISTS), "--retry-factor", "3")
    meta = client.hgetall(Keys("lists").meta)
    assert {key: value for key, value in meta.items() if key.startswith(b"retry")} == {
        b"retry": b"3 0 3 600000 0.2 - -",
        b"retry:1": b"7 4000 3 600000 0.2 - -",
    }
    snapshot = Reader(redis_url, "lists").snapshot()
    assert [channel.rate_limit for channel in snapshot.channels] == ["10/s", "", "90/min"]


def test_the_rate_on_the_command_line_is_that_of_each_channel(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    run(spawn, redis_url, "rate", write_job(tmp_path, LISTS), "--rate", "500/s")
    snapshot = Reader(redis_url, "rate").snapshot()
    assert [channel.rate_limit for channel in snapshot.channels] == ["500/s"] * 3


def test_a_resumed_run_keeps_the_present_rates_unless_it_names_rates(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    plain = write_job(tmp_path, LISTS.replace("rates =", "others ="))
    run(spawn, redis_url, "stay", plain)
    mutitask("ctl", "reset_rate", "700/s", "1", "--redis", redis_url, "--name", "stay")
    run(spawn, redis_url, "stay", plain, "--resume")
    assert [c.rate_limit for c in Reader(redis_url, "stay").snapshot().channels] == ["", "700/s", ""]
    run(spawn, redis_url, "stay", write_job(tmp_path, LISTS), "--resume")
    assert [c.rate_limit for c in Reader(redis_url, "stay").snapshot().channels] == ["10/s", "", "90/min"]


def test_a_program_passes_policies_and_rates(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[RunPlan] = []
    monkeypatch.setattr(
        "mutitask_tui.launch.run_server.run_server",
        lambda _location, _name, plan, *_, **__: plans.append(plan) or 0,
    )
    policy = Retry(times=5, never=(KeyError,))
    Server(1, redis_url=redis_url, retry=[policy, None], rates="10/s", retry_delay=2).start(
        [iter("a"), iter("b")]
    )
    Server(1, redis_url=redis_url, retries=0, rates=[None, "1/h"]).start([iter("a"), iter("b")])
    Server(1, redis_url=redis_url).start([iter("a")])
    assert [(dict(plan.policies), dict(plan.rates)) for plan in plans] == [
        (
            {"retry": "3 2000 2 600000 0.2 - -", "retry:0": "5 2000 2 600000 0.2 - builtins:KeyError"},
            {"rate:0": "10 1000", "rate:1": "10 1000"},
        ),
        ({"retry": "0 0 2 600000 0.2 - -"}, {"rate:1": "1 3600000"}),
        ({"retry": "3 0 2 600000 0.2 - -"}, {}),
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"retry": 3}, "`retry` must be Retry(...), or a list with a Retry or None for each channel, not 3"),
        ({"retries": 99}, "times of Retry must be a whole number from 0 to 98, not 99"),
        ({"retry_delay": -1}, "delay of Retry must be a number from 0 to 604,800 seconds, not -1"),
        ({"rates": "10"}, "a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not '10'"),
        (
            {"rates": 10},
            "`rates` must be text such as '10/s', or a list with such a text or None for each channel, not 10",
        ),
    ],
)  # fmt: skip
def test_a_program_gets_one_sentence_for_a_bad_value(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Server(1, **given)
    assert str(caught.value) == sentence


def test_a_program_with_more_policies_than_channels_gets_one_sentence(redis_url: str) -> None:
    with pytest.raises(ValueError, match=r"^`retry` lists 2 entries for 1 channel: list one for each$"):
        Server(1, redis_url=redis_url, retry=[None, Retry()]).start([iter("a")])


def test_a_task_with_a_delay_and_a_time_limit_of_its_own(
    redis_url: str, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(
        tmp_path,
        """
        import time
        from mutitask_tui import Task
        def tasks():
            yield Task(time.time(), delay=0.5)
            yield Task("long", timeout=0.3, retries=0)
        def task_function(task):
            if task == "long":
                time.sleep(30)
            return time.time() - task
        """,
    )
    run(spawn, redis_url, "own", job, "--kind", "process")
    lines = mutitask("results", "export", "--redis", redis_url, "--name", "own").lines
    (waited_s,) = [line["result"] for line in lines]
    assert waited_s >= 0.5
    (record,) = Reader(redis_url, "own").failed_records(0, 0, 10)
    assert (record.view.stage, record.view.runs, record.value) == ("timeout", 1, "long")
    assert "longer than the limit of 0.3 s" in record.view.error


def test_a_task_is_the_same_class_everywhere() -> None:
    import Mutitask
    import mutitask_tui
    import worker_agent

    assert mutitask_tui.Task is worker_agent.Task is Task
    assert mutitask_tui.Retry is worker_agent.Retry and mutitask_tui.GiveUp is worker_agent.GiveUp
    assert Mutitask is not None
