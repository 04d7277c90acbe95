"""The end of a run: its exit status and its last line report what happened to the tasks."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from mutitask_tui.server.inspector import Inspector
from mutitask_tui.server.reader import Reader
from tests.cli.tools import Stack, mutitask, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until
from worker_agent.protocol.keys import Keys

Spawn = Callable[..., Program]

JOB = """
def tasks():
    yield from range(15)
def task_function(task):
    return task or None
"""
UNTIL_DONE = ["--headless", "--autostart", "--until-done", "--local-agents", "1", "--retries", "0"]


@pytest.mark.parametrize(("options", "status"), [([], 7), (["--failed-ok"], 0)])
def test_failed_tasks_have_a_status_of_their_own(
    redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path, options: list[str], status: int
) -> None:
    job = write_job(tmp_path, JOB)
    run = spawn(["mutitask", "run", job, "--redis", redis_url, "--name", "failed", *UNTIL_DONE, *options])
    assert run.wait() == status, run
    sentence = "1 task failed: the exit status is 7 (--failed-ok makes it 0)"
    assert (sentence in run.stderr) == (status == 7)


def test_missing_tasks_have_an_exit_status_and_are_named_by_number(
    redis_url: str, client: redis.Redis, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, JOB)
    run = spawn(
        ["mutitask", "run", job, "--redis", redis_url, "--name", "lost", "--headless", "--until-done"]
    )
    wait_until(lambda: "15/50 waiting" in run.stderr, 20, what=repr(run))
    client.ltrim(Keys("lost").channel(0).waiting, 4, -4)
    wait_until(lambda: "COUNTERS NOT BALANCED" in run.stderr, 20, what=repr(run))
    run.terminate()
    assert run.wait() == 8, run
    assert (
        "TaskChannel0: 7 tasks are missing: they are in no list any more, and no command of MutiTask causes that; "
        "they are among the items 0 to 14" in run.stderr
    ) or "the first is item 0, the last item 14; give them to a new run" in run.stderr


def test_missing_tasks_are_named_if_the_ids_show_them(redis_url: str, client: redis.Redis) -> None:
    with Stack(redis_url, "ids", iter(range(100)), devices=1, capacity=200) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        waiting = Keys("ids").channel(0).waiting
        reader = Inspector(redis_url, "ids")
        items = client.lrange(waiting, 40, 49)
        for item in items:
            client.lrem(waiting, 1, item)
        text = reader.missing_tasks_text(stack.channel())
        assert "10 tasks are missing" in text
        assert text.endswith("the first is item 40, the last item 49; give them to a new run")
        for item in items[1:]:
            client.rpush(waiting, item)
        assert reader.missing_tasks_text(stack.channel()).endswith("it is item 40; give it to a new run")
        client.rpush(waiting, items[0], items[0])
        assert "1 tasks more than were allotted" in reader.missing_tasks_text(stack.channel())


def test_deleted_keys_are_reported_as_gone(
    redis_url: str, client: redis.Redis, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, JOB)
    run = spawn(["mutitask", "run", job, "--redis", redis_url, "--name", "flushed", "--headless"])
    wait_until(lambda: "15/50 waiting" in run.stderr, 20, what=repr(run))
    client.delete(*client.keys("{mt:flushed}*"))
    assert run.wait() == 8, run
    assert "the keys of namespace 'flushed' are gone from Redis" in run.stderr
    assert "no server holds" not in run.stderr


def test_a_server_with_all_tasks_done_says_so_once_and_prints_nothing_more(
    redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, JOB.replace("or None", "+ 1"))
    line = ["mutitask", "run", job, "--redis", redis_url, "--name", "still", "--headless", "--autostart"]
    run = spawn([*line, "--local-agents", "1"])
    sentence = "finished: 15 done, 0 failed; Ctrl+C ends the server, --until-done does so by itself"
    wait_until(lambda: sentence in run.stderr, 20, what=repr(run))
    lines = len(run.stderr.splitlines())
    with pytest.raises(AssertionError):
        wait_until(lambda: len(run.stderr.splitlines()) > lines, 5)
    run.terminate()
    assert run.wait() == 0, run


STUCK = """
import time
def tasks():
    yield from range(2)
def task_function(task):
    time.sleep(3600)
"""


def test_a_second_exit_does_not_wait_for_a_stuck_task(
    redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, STUCK)
    where = ["--redis", redis_url, "--name", "stuck"]
    run = spawn(["mutitask", "run", job, *where, "--headless", "--autostart", "--local-agents", "1"])
    wait_until(lambda: "1 of 1 devices running" in run.stderr, 20, what=repr(run))
    wait_until(lambda: Reader(redis_url, "stuck").snapshot().devices[0].running, 20)
    assert "within 30 s" in mutitask("ctl", "exit", "--yes", *where).stdout
    mutitask("ctl", "exit", "--yes", *where)
    assert run.wait(20) == 0, run
    assert "2 tasks allotted: 0 done, 0 failed, 2 still to do" in run.stderr


def test_a_second_signal_hands_back_what_local_agents_run(
    redis_url: str, state_dir: Path, spawn: Spawn, tmp_path: Path
) -> None:
    job = write_job(tmp_path, STUCK)
    line = ["mutitask", "run", job, "--redis", redis_url, "--name", "twice", "--headless", "--autostart"]
    run = spawn([*line, "--local-agents", "1"])
    wait_until(lambda: "1 of 1 devices running" in run.stderr, 20, what=repr(run))
    wait_until(lambda: Reader(redis_url, "twice").snapshot().devices[0].running, 20)
    run.signal(signal.SIGINT)
    wait_until(
        lambda: "waiting for running tasks of local agents, 30 s at most; Ctrl+C again" in run.stderr, 20
    )
    run.signal(signal.SIGINT)
    assert run.wait(20) == 0, run
    assert "2 tasks allotted: 0 done, 0 failed, 2 still to do" in run.stderr
