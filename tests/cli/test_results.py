"""`mutitask results export`: every type is a line of JSON. Drained results are removed, all others stay."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy
import pytest

from mutitask_tui.server.exports import export_results
from mutitask_tui.server.reader import Reader
from tests.cli.tools import Stack, mutitask
from tests.support.programs import Program
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import ConcurrentChange

EACH_TYPE: list[tuple[Any, Any]] = [
    ("text \x1b[31m ü \U0001f600", "text \x1b[31m ü \U0001f600"),
    (0, 0),
    ("", ""),
    ([], []),
    (False, False),
    (2**80, 2**80),
    (1.5, 1.5),
    ({"a": [1, None], 2: "two"}, {"a": [1, None], "2": "two"}),
    (b"\x00\xff", {"$bytes": base64.b64encode(b"\x00\xff").decode()}),
    ((1, (2, 3)), [1, [2, 3]]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset("ab"), ["a", "b"]),
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "2026-01-02T03:04:05+00:00"),  # noqa: UP017
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4, 5), "03:04:05"),
    (dt.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
    (Decimal("1.10"), "1.10"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (1 + 2j, "(1+2j)"),
    (numpy.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    (numpy.float64(0.5), 0.5),
]


def export(url: str, name: str, *args: object) -> list[Any]:
    return mutitask("results", "export", "--redis", url, "--name", name, *args).lines


def test_every_type_is_a_line_of_json(redis_url: str) -> None:
    values, shown = zip(*EACH_TYPE, strict=True)
    with Stack(redis_url, "types", iter(range(len(values)))) as stack:
        stack.agent(0, task_function=lambda number: values[number])
        stack.done("start_all")
        stack.until_all_settled()
    lines = export(redis_url, "types")
    assert {line["number"]: line["result"] for line in lines} == dict(enumerate(shown))
    first = lines[0]
    assert set(first) == {"channel", "id", "number", "attempt", "device", "finished_ms", "result"}
    assert (first["channel"], first["attempt"], first["device"]) == (0, 0, 0)
    assert len(first["id"]) == 20 and first["id"].endswith(f"{first['number']:012d}")


def test_drained_results_are_removed_and_all_others_stay(redis_url: str) -> None:
    with Stack(redis_url, "drain", iter(range(40)), iter(range(5))) as stack:
        stack.agent(0, channel=0, task_function=lambda task: [task])
        stack.agent(1, channel=1, task_function=lambda task: [task])
        stack.done("start_all")
        stack.until_all_settled()

    assert len(export(redis_url, "drain")) == 45
    assert len(export(redis_url, "drain")) == 45  # An export without --drain removes nothing.
    drained = export(redis_url, "drain", "--channel", 0, "--drain")
    assert sorted(line["number"] for line in drained) == list(range(40))
    rest = export(redis_url, "drain", "--drain")
    assert [(line["channel"], line["number"]) for line in rest] == [(1, number) for number in range(5)]
    assert export(redis_url, "drain") == []
    assert stack.snapshot().balanced and stack.channel(0).done == 40


def test_a_broken_pipe_loses_no_result(redis_url: str, spawn: Callable[..., Program], tmp_path: Path) -> None:
    """Results that were not written completely are still in Redis."""
    with Stack(redis_url, "pipe", iter(range(3000)), capacity=3000) as stack:
        stack.agent(0, task_function=lambda task: "x" * 200)
        stack.done("start_all")
        stack.until_all_settled()
    script = f"mutitask results export --drain --redis {redis_url} --name pipe | head -1"
    reader = spawn(["sh", "-c", f'PATH="$BIN:$PATH" {script}'], env={"BIN": bin_directory()})
    assert reader.wait() == 0, reader
    assert "Traceback" not in reader.stderr
    json.loads(reader.stdout)
    left = export(redis_url, "pipe")
    assert len(left) >= 1000  # Only whole pages that fit into the pipe were drained.
    assert [line["number"] for line in left][-1] == 2999


def test_a_full_disk_loses_no_result(redis_url: str, spawn: Callable[..., Program]) -> None:
    with Stack(redis_url, "full", iter(range(10))) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.done("start_all")
        stack.until_all_settled()
    line = f'"$BIN"/mutitask results export --drain --redis {redis_url} --name full'
    writer = spawn(["sh", "-c", f"{line} > /dev/full"], env={"BIN": bin_directory()})
    assert writer.wait() == 1, writer
    assert writer.stderr == (
        "mutitask: cannot use the output (No space left on device): "
        "fix that, or choose another path; nothing is lost\n"
    )
    assert len(export(redis_url, "full")) == 10


def test_lines_are_utf_8_with_any_terminal_encoding(redis_url: str, spawn: Callable[..., Program]) -> None:
    with Stack(redis_url, "utf8", iter(["ü \U0001f600"])) as stack:
        stack.agent(0, task_function=lambda task: task)
        stack.done("start_all")
        stack.until_all_settled()
    line = ["mutitask", "results", "export", "--redis", redis_url, "--name", "utf8"]
    program = spawn(line, env={"PYTHONIOENCODING": "ascii"})
    assert program.wait() == 0, program
    assert json.loads(program.stdout)["result"] == "ü \U0001f600"


def bin_directory() -> Path:
    from tests.support.programs import BIN

    return BIN


def test_two_drains_at_the_same_time_are_reported(redis_url: str) -> None:
    with Stack(redis_url, "two", iter(range(10))) as stack:
        stack.agent(0, task_function=lambda task: [task])
        stack.done("start_all")
        stack.until_all_settled()

    class DrainedMeanwhile(io.StringIO):
        """An output during which another command drains the same page."""

        def flush(self) -> None:
            export(redis_url, "two", "--drain")

    reader = Reader(redis_url, "two")
    broker = Broker(reader.client, "two", Actor.operator(), address=reader.address)
    broker.register_operator()
    with pytest.raises(
        ConcurrentChange, match="somebody else drains the results of TaskChannel0 too: the last 10 lines"
    ):
        export_results(reader, broker, 0, DrainedMeanwhile())


def test_results_of_a_save_function_are_not_in_redis(redis_url: str) -> None:
    saved: list[Any] = []
    with Stack(redis_url, "saved", iter(range(5))) as stack:
        stack.agent(0, task_function=lambda task: [task], save_function=saved.append)
        stack.done("start_all")
        stack.until_all_settled()
    assert sorted(saved) == [[number] for number in range(5)]
    assert export(redis_url, "saved") == []
    assert stack.channel().done == 5
