"""Feeds that stop at an item, foreign items, and a default port that another program uses."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli.tools import Stack, mutitask, write_job
from tests.support.programs import Program
from worker_agent.protocol import wire
from worker_agent.protocol.keys import Keys

JOB = """
def tasks():
    yield from range(5)
def task_function(task):
    return task
"""


def with_an_unpackable_item() -> Iterator[Any]:
    yield 0
    yield 1
    yield lambda: None
    yield 3


LAMBDA = r"item 2 is a value of type function, which msgpack cannot carry"


def test_an_item_that_cannot_be_packed_halts_the_feed_until_it_is_skipped(redis_url: str) -> None:
    with Stack(redis_url, "halting", with_an_unpackable_item(), iter("abc")) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.done("start_all")
        stopped = stack.until(lambda s: s.channels[0].halted and s.channels[0].done == 2)
        assert re.search(LAMBDA, stopped.channels[0].halted)
        assert any(re.search("TaskChannel0: the feed stopped: " + LAMBDA, e.text) for e in stopped.events)
        stack.until(lambda s: s.channels[1].exhausted)  # The other channel continues.

        skipped = stack.done("skip_item", 0, "--yes")

        assert skipped["item"] == 2
        after = stack.until(lambda s: s.channels[0].exhausted and s.channels[0].done == 3)
        assert after.balanced and after.channels[0].allotted == 3
        assert not after.channels[0].halted


HALTING_JOB = """
import os
def tasks():
    yield 0
    yield 1
    yield (lambda: None) if os.environ.get("BROKEN") else 2
    yield 3
def task_function(task):
    return [task]
"""


def test_a_fixed_job_yields_the_item_again(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    job = write_job(tmp_path, HALTING_JOB)
    line = ["mutitask", "run", job, "--redis", redis_url, "--headless", "--until-done", "--autostart",
            "--local-agents", "1"]  # fmt: skip

    broken = spawn(line, env={"BROKEN": "1"})
    assert broken.wait() == 1, broken
    assert len(re.findall(f"\\d\\d TaskChannel0: {LAMBDA}", broken.stderr)) == 1, broken
    assert "Traceback" not in broken.stderr
    assert (
        "fix the job and continue with --resume, or skip the item: `mutitask ctl skip_item 0`"
        in broken.stderr
    )

    fixed = spawn([*line, "--resume"])
    assert fixed.wait() == 0, fixed
    lines = mutitask("results", "export", "--redis", redis_url).lines
    assert sorted(line["number"] for line in lines) == [0, 1, 2, 3]


def test_the_next_server_skips_the_item_that_a_person_wanted_to_skip(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    line = ["mutitask", "run", write_job(tmp_path, HALTING_JOB), "--redis", redis_url, "--headless",
            "--until-done", "--autostart", "--local-agents", "1"]  # fmt: skip
    assert spawn(line, env={"BROKEN": "1"}).wait() == 1
    assert mutitask("ctl", "skip_item", "0", "--redis", redis_url).status == 0
    again = spawn([*line, "--resume"], env={"BROKEN": "1"})
    assert again.wait() == 0, again
    assert "3 tasks allotted: 3 done" in again.stderr


def test_an_item_of_more_than_64_mib_halts_the_feed(redis_url: str) -> None:
    with Stack(redis_url, "large", iter(["small", b"x" * (wire.MAX_BYTES + 1), "small"])) as stack:
        stopped = stack.until(lambda s: s.channels[0].halted)
        assert re.fullmatch(r"item 1 is a bytes of 67,1\d\d,\d\d\d bytes once packed; the most is 64 MiB.*",
                            stopped.channels[0].halted)  # fmt: skip
        assert stopped.channels[0].allotted == 1
        assert stack.status()["channels"][0]["halted"] == stopped.channels[0].halted


def test_a_generator_that_raises_halts_the_feed(redis_url: str) -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise OSError("the list is gone")

    with Stack(redis_url, "raising", broken()) as stack:
        stopped = stack.until(lambda s: s.channels[0].halted)
        assert stopped.channels[0].halted == (
            "item 1: the generator raised OSError: the list is gone; fix the job, then continue with --resume"
        )
        result = stack.ctl("skip_item", 0, "--yes")
        # A generator that raised yields no further items.
        assert result.status == 2 or stack.channel().halted


def test_a_foreign_item_goes_to_the_fail_channel_and_the_other_tasks_run(
    redis_url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Stack(redis_url, "strange", iter(range(5)), capacity=10) as stack:
        stack.until(lambda s: s.channels[0].waiting == 5)
        at = Keys("strange").channel(0)
        client.lpush(at.waiting, b"\xff garbage \x1b[31m", b"")
        stack.agent(0)
        stack.done("start_all")
        snapshot = stack.until(lambda s: s.channels[0].done == 5 and s.channels[0].failed == 2)

        channel = snapshot.channels[0]
        assert channel.foreign == 2 and channel.allotted == 7 and channel.balanced
        exported = Path(stack.done("export_fail_tasks")["path"])
        lines = [json.loads(line) for line in exported.read_text().splitlines()]
        assert {line["stage"] for line in lines} == {"foreign"}
        foreign = stack.failed_ids()[0]
        result = stack.ctl("reload_one_fail_task", 0, foreign)
        assert result.status == 2
        assert f"task {foreign} is foreign: it has no header to run it by; edit or delete it" in result.stderr
        assert stack.done("delete_one_fail_task", 0, foreign, "--yes")["deleted"] == 1
        assert stack.channel().balanced


def test_a_resumed_generator_that_yields_fewer_items_is_an_error(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    with Stack(redis_url, "shorter", iter(range(1000)), capacity=10) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.done("start_all")
        stack.until(lambda s: s.channels[0].done >= 10)
        stack.done("pause_allot")
        stack.until(lambda s: s.channels[0].open == 0)
        stack.done("start_allot")
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, JOB), "--resume", "--headless", "--until-done",
         "--redis", redis_url, "--name", "shorter", "--local-agents", "1", "--autostart"],
    )  # fmt: skip
    assert program.wait() == 1, program
    says = (
        r"TaskChannel0: the generator ended after 5 items, and \d+ were allotted: not the same generator; "
        r"resume with the job that started the run, or pass --resume-anyway to run the remaining tasks, or --fresh"
    )
    assert re.search(says, program.stderr), program


def test_the_embedded_valkey_leaves_a_taken_default_port_alone(
    spawn: Callable[..., Program], tmp_path: Path, state_dir: Path
) -> None:
    """The embedded Valkey uses another port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 6379))
        except OSError:
            pytest.skip("another process holds 6379")
        taken.listen()
        job = write_job(tmp_path, JOB)
        program = spawn(
            ["mutitask", "run", job, "--headless", "--until-done", "--autostart", "--local-agents", "1"]
        )
        assert program.wait() == 0, program
        assert "5 done, 0 failed" in program.stderr
        assert "127.0.0.1:6379" not in program.stderr
