"""A resumed run halts if its generator yields other items than before. `--resume-anyway` lets it continue."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mutitask_tui.server.feed import digest, parse_marks
from tests.cli.tools import Stack, mutitask, no_agents_left, write_job
from worker_agent.protocol.keys import Keys

__all__ = ["no_agents_left"]


def resumed(redis_url: str, items: Iterator[Any], **plan: Any) -> Stack:
    return Stack(redis_url, "again", items, devices=1, mode="resume", autostart=True, **plan)


def feed_partly(redis_url: str, items: Iterator[Any], until: int = 2_500) -> None:
    """Start a run and end its server when `until` items are allotted."""
    with Stack(redis_url, "again", items, devices=1, capacity=until) as stack:
        stack.until(lambda s: s.channels[0].allotted == until)


def strings(count: int) -> Iterator[Any]:
    """Yield items that contain sets. The order in a set differs between processes and must not matter."""
    return ({"n": number, "tags": {f"tag {number}", "all", "more"}} for number in range(count))


def test_the_same_generator_continues(redis_url: str) -> None:
    feed_partly(redis_url, strings(3_000))
    with resumed(redis_url, strings(3_000), capacity=5_000) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        assert stack.channel().allotted == 3_000


OTHERS: dict[str, tuple[Callable[[], Iterator[Any]], int]] = {
    "from the start": (lambda: (-n for n in range(1, 3_001)), 0),
    "one fewer": (lambda: (n for n in range(3_001) if n != 17), 1_000),
    "one more": (lambda: itertools.chain(range(1_500), [0.5], range(1_500, 3_000)), 2_000),
    "at the end": (lambda: (n if n < 2_400 else str(n) for n in range(3_000)), 2_499),
    "of another type": (lambda: (float(n) for n in range(3_000)), 0),
    "unpackable": (lambda: (object() for _ in range(3_000)), 0),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_generator_halts_at_the_first_item_that_differs(redis_url: str, other: str) -> None:
    items, number = OTHERS[other]
    feed_partly(redis_url, iter(range(3_000)))
    with resumed(redis_url, items(), capacity=5_000) as stack:
        channel = stack.until(lambda s: bool(s.channels[0].halted)).channels[0]
        assert channel.halted.startswith(f"item {number} differs from the one that was allotted")
        assert "--resume-anyway to continue with this one from item 2500 on" in channel.halted
        assert channel.allotted == 2_500 and channel.balanced
    with resumed(redis_url, iter(range(3_000)), capacity=5_000) as stack:
        stack.until(lambda s: s.channels[0].exhausted)  # The right generator continues.
        assert stack.channel().allotted == 3_000 and not stack.channel().halted


def test_anyway_continues_and_later_resumes_compare_with_the_new_generator(redis_url: str) -> None:
    feed_partly(redis_url, iter(range(3_000)))
    with resumed(redis_url, (-n for n in range(5_000)), anyway=True, capacity=4_500) as stack:
        stack.until(lambda s: s.channels[0].allotted == 4_500)
    with resumed(redis_url, (-n for n in range(5_000)), capacity=9_000) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        assert stack.channel().allotted == 5_000
    with resumed(redis_url, iter(range(5_000)), capacity=9_000) as stack:
        assert "item 3000 differs" in stack.until(lambda s: bool(s.channels[0].halted)).channels[0].halted


def test_with_anyway_a_shorter_generator_is_exhausted(redis_url: str) -> None:
    feed_partly(redis_url, iter(range(3_000)))
    with resumed(redis_url, iter(range(7))) as stack:
        channel = stack.until(lambda s: bool(s.channels[0].halted)).channels[0]
        assert channel.halted.startswith("the generator ended after 7 items, and 2500 were allotted")
    with resumed(redis_url, iter(range(7)), anyway=True) as stack:
        stack.until(lambda s: s.channels[0].exhausted)


def test_a_skipped_item_leaves_no_mark(redis_url: str) -> None:
    def items() -> Iterator[Any]:
        yield from range(1_000)
        yield object()
        yield from range(1_001, 1_200)

    with Stack(redis_url, "again", items(), devices=1, capacity=2_000) as stack:
        stack.until(lambda s: bool(s.channels[0].halted))
        stack.done("skip_item", 0)
        stack.until(lambda s: s.channels[0].exhausted)
    with resumed(redis_url, items()) as stack:
        stack.until(lambda s: s.channels[0].exhausted and not s.channels[0].halted)


def test_the_digest_equals_the_one_of_the_script(redis_url: str, client: redis.Redis) -> None:
    bodies = ["", "x", "y" * 4_000, "z" * 4_096, "ä" * 50_000]
    with Stack(redis_url, "again", iter(bodies), devices=1) as stack:
        stack.until(lambda s: s.channels[0].exhausted)
        at = Keys("again").channel(0)
        items = client.lrange(at.waiting, 0, -1)
        marks = client.hgetall(at.marks)
    assert marks[b"0"].decode() == digest(items[0])
    assert marks[b"last"].decode() == f"4 {digest(items[4])}"
    assert parse_marks(marks, 5) == {0: digest(items[0]), 4: digest(items[4])}
    assert parse_marks({b"x": b"y", b"last": b"z", b"-1": b"q", b"9": b"late"}, 5) == {}


def test_the_command_reports_the_difference_and_continues_with_resume_anyway(
    redis_url: str, tmp_path: Path
) -> None:
    text = "def tasks():\n    yield from {}\ndef task_function(task):\n    return task\n"
    feed_partly(redis_url, iter(range(10)), until=5)
    other = write_job(tmp_path, text.format("'abcdefghijkl'"))
    at = [
        "--redis",
        redis_url,
        "--name",
        "again",
        "--headless",
        "--until-done",
        "--autostart",
        "--local-agents",
        "1",
    ]
    ran = mutitask("run", other, "--resume", *at)
    assert ran.status == 1 and "item 0 differs from the one that was allotted" in ran.stderr
    ran = mutitask("run", other, "--resume-anyway", *at)
    assert ran.status == 0 and "12 tasks allotted: 12 done" in ran.stderr
