"""What tasks print and log: with their numbers on stderr, in Redis for the device's screen, and with their failure."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mutitask_tui.server.inspector import Inspector
from tests.agent.bench import NAME, Bench
from tests.agent.process_jobs import job
from tests.crashes.fleet import Fleet, wait_for_text
from worker_agent import current_task
from worker_agent.console import streams
from worker_agent.execution import line_buffer, task_lines
from worker_agent.execution.line_buffer import LineBuffer
from worker_agent.execution.speech import SPEAKING, Speech, cut_line, tail_of
from worker_agent.protocol.membership import MAX_TASK_LINES
from worker_agent.protocol.task_line import TaskLine

KINDS = pytest.mark.parametrize("kind", ["thread", "process"])

SPEAKS = """
import logging
from worker_agent import current_task

logging.getLogger("quiet").setLevel(logging.ERROR)

def tasks():
    yield from ("good", "bad")

def task_function(task):
    print("printed", task)
    print("on stderr", file=sys.stderr)
    logging.getLogger("some.library").info("logged %s", task)
    logging.getLogger("some.library").debug("too fine")
    logging.getLogger("quiet").warning("too quiet")
    current_task().log.warning("by its own logger")
    print("without a newline", end="")
    os.system("echo from a program")
    if task == "bad":
        raise ValueError("it is bad")
    return task
"""
SAID = ["printed {}", "on stderr", "INFO logged {}", "WARNING by its own logger", "without a newline"]


@KINDS
def test_lines_have_their_tasks_number_and_are_kept_for_the_device(fleet: Fleet, kind: str) -> None:
    job(fleet, SPEAKS)
    fleet.serve("--retries", "0")
    agent = fleet.agent("--device", "0", "--kind", kind)
    fleet.wait_for(lambda counters: counters.done == 1 and counters.failed == 1)
    agent.terminate()
    assert agent.wait() == 0, agent

    inspector = Inspector(fleet.redis.url, fleet.keys.name)
    for number, task in enumerate(["good", "bad"]):
        said = [text.format(task) for text in SAID]
        lines = agent.stderr.splitlines()
        prefix = f"Device0 ch0 #{number}: "
        assert [line.removeprefix(prefix) for line in lines if line.startswith(prefix)] == said
        kept = [line.text for line in inspector.task_lines(0) if line.id.endswith(f"{number:012d}")]
        assert kept == said
    assert "from a program" in agent.stdout
    [failed] = fleet.failed()
    detail = inspector.failed_task(0, failed.id)
    assert detail is not None
    assert list(detail.failed_runs[-1].lines) == [text.format("bad") for text in SAID]
    assert "ValueError: it is bad" in failed.traceback


@KINDS
def test_lines_are_json_where_the_log_is(fleet: Fleet, kind: str) -> None:
    job(fleet, SPEAKS)
    fleet.serve("--retries", "0")
    agent = fleet.candidate("--device", "0", "--kind", kind, "--log-format", "json")
    fleet.wait_for(lambda counters: counters.done == 1 and counters.failed == 1)
    agent.terminate()
    assert agent.wait() == 0, agent
    lines = [json.loads(line) for line in agent.stderr.splitlines()]
    said = [line for line in lines if line.get("task") == 1]
    assert [line["message"] for line in said] == [text.format("bad") for text in SAID]
    assert [line["level"] for line in said] == ["info", "info", "info", "warning", "info"]
    assert {(line["device"], line["channel"], len(line["run"])) for line in said} == {(0, 0, 8)}


@KINDS
def test_without_capture_nothing_is_taken(fleet: Fleet, kind: str) -> None:
    job(fleet, SPEAKS)
    fleet.serve("--retries", "0")
    agent = fleet.agent("--device", "0", "--kind", kind, "--no-capture")
    fleet.wait_for(lambda counters: counters.done == 1 and counters.failed == 1)
    agent.terminate()
    assert agent.wait() == 0, agent
    assert "printed good\n" in agent.stdout and "printed" not in agent.stderr
    assert "Device0 ch0 #0: WARNING by its own logger" in agent.stderr
    assert Inspector(fleet.redis.url, fleet.keys.name).task_lines(0) == ()
    assert (
        Inspector(fleet.redis.url, fleet.keys.name).failed_task(0, fleet.failed()[0].id).failed_runs[-1].lines
        == ()
    )


def test_stdout_that_goes_elsewhere_gets_the_text_as_it_is(fleet: Fleet) -> None:
    """A save function may print results for another program."""
    job(fleet, """
def tasks():
    yield 1
def task_function(task):
    return task
def save_function(result):
    print("result", result)
""")  # fmt: skip
    fleet.serve()
    agent = fleet.agent()
    fleet.wait_for(lambda counters: counters.done == 1)
    agent.terminate()
    assert agent.wait() == 0, agent
    assert agent.stdout == "result 1\n"
    assert "Device0 ch0 #0: result 1" in agent.stderr


def test_the_lines_of_a_run_that_is_killed_stand_with_its_failure(fleet: Fleet) -> None:
    job(fleet, """
def tasks():
    yield 1
def task_function(task):
    print("begins")
    wait_for("never")
""")  # fmt: skip
    fleet.serve("--retries", "0")
    fleet.agent("--device", "0", "--kind", "process", "--timeout", "1")
    fleet.wait_for(lambda counters: counters.failed == 1)
    [failed] = fleet.failed()
    detail = Inspector(fleet.redis.url, fleet.keys.name).failed_task(0, failed.id)
    assert detail is not None and (failed.stage, detail.failed_runs[0].lines) == ("timeout", ("begins",))


def test_the_lines_before_a_crash_stand_with_the_failure(fleet: Fleet) -> None:
    job(fleet, """
from worker_agent import current_task

def tasks():
    yield 1

def task_function(task):
    print("the last words", flush=True)
    while not current_task().deadline:
        time.sleep(0.4)
        os.kill(os.getpid(), signal.SIGKILL)
""")  # fmt: skip
    fleet.serve()
    fleet.agent("--device", "0", "--kind", "process")
    fleet.wait_for(lambda counters: counters.failed == 1)
    [failed] = fleet.failed()
    detail = Inspector(fleet.redis.url, fleet.keys.name).failed_task(0, failed.id)
    assert detail is not None and (failed.stage, detail.crashes) == ("crashed", 3)
    assert detail.failed_runs[-1].lines == ("the last words",)


def test_a_forked_process_prints_with_the_number_of_its_task(fleet: Fleet) -> None:
    job(fleet, """
import multiprocessing

def part(number):
    print("part", number, flush=True)
    return number

def tasks():
    yield 1

def task_function(task):
    print("before")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(part, [1, 2])
""")  # fmt: skip
    fleet.serve()
    agent = fleet.agent()
    fleet.wait_for(lambda counters: counters.done == 1)
    for text in ("before", "part 1", "part 2"):
        wait_for_text(agent, f"Device0 ch0 #0: {text}\n")


COROUTINES = """
import asyncio
from worker_agent import current_task

def tasks():
    yield from range(5)

async def part(task):
    print("part of", task)

async def task_function(task):
    print("begins", task)
    await asyncio.gather(asyncio.sleep(0.05), part(task))
    await asyncio.to_thread(print, "in a thread", task)
    current_task().progress(task, 10)
    print("ends", task, end="")
    if task == 3:
        raise ValueError("it is bad")
    return task
"""


LOOPS = pytest.mark.parametrize(
    "options", [(), ("--kind", "asyncio", "--processes", "2")], ids=["one", "several"]
)


@LOOPS
def test_lines_of_coroutines_belong_to_their_tasks(fleet: Fleet, options: tuple[str, ...]) -> None:
    job(fleet, COROUTINES)
    fleet.serve("--retries", "0")
    agent = fleet.agent("--device", "0", "--concurrency", "5", *options)
    fleet.wait_for(lambda counters: counters.done == 4 and counters.failed == 1)
    agent.terminate()
    assert agent.wait() == 0, agent
    lines = agent.stderr.splitlines()
    for number in range(5):
        prefix = f"Device0 ch0 #{number}: "
        said = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        assert said == [f"{what} {number}" for what in ("begins", "part of", "in a thread", "ends")]
    kept = Inspector(fleet.redis.url, fleet.keys.name)
    assert len(kept.task_lines(0)) == 20
    detail = kept.failed_task(0, fleet.failed()[0].id)
    assert detail is not None and len(detail.failed_runs[0].lines) == 4


@LOOPS
def test_the_lines_of_a_coroutine_that_is_cancelled_stand_with_its_failure(
    fleet: Fleet, options: tuple[str, ...]
) -> None:
    job(fleet, """
import asyncio

def tasks():
    yield 1

async def task_function(task):
    print("begins")
    await asyncio.sleep(60)
""")  # fmt: skip
    fleet.serve("--retries", "0")
    fleet.agent("--device", "0", "--concurrency", "2", "--timeout", "0.5", *options)
    fleet.wait_for(lambda counters: counters.failed == 1)
    [failed] = fleet.failed()
    detail = Inspector(fleet.redis.url, fleet.keys.name).failed_task(0, failed.id)
    assert detail is not None and (failed.stage, detail.failed_runs[0].lines) == ("timeout", ("begins",))


# In this process


class Caught(io.StringIO):
    """What goes to the agent's stderr. pytest sets its own streams for each test, so the test itself begins."""

    begun = False

    def begin(self) -> None:
        """Take what the tasks of this process say."""
        task_lines.capture_streams()
        task_lines.capture_logging()
        self.begun = True


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caught]:
    caught = Caught()
    monkeypatch.setattr(streams, "_stderr", caught)
    yield caught
    if caught.begun:
        task_lines.release()
    assert not SPEAKING


def lines_of(bench: Bench) -> list[TaskLine]:
    return list(Inspector(bench.url, NAME).task_lines(0))


def test_progress_bars_are_one_line(bench: Bench, stderr: Caught) -> None:
    stderr.begin()

    def runs(task: object) -> object:
        for percent in range(0, 101, 10):
            sys.stderr.write(f"\rloaded {percent}%")
        sys.stderr.write("\nended\r\n")
        print("a", "b", sep="\n")
        return task

    bench.run([1], runs)
    said = [line.removeprefix("Device0 ch0 #0: ") for line in stderr.getvalue().splitlines()]
    assert said == ["loaded 100%", "ended", "a", "b"]


def test_what_is_printed_outside_of_runs_goes_through(capsys: Any, stderr: Caught) -> None:
    stderr.begin()
    print("of the program")
    print("an error", file=sys.stderr)
    sys.stdout.writelines(["one\n", "two\n"])
    out, err = capsys.readouterr()
    assert (stderr.getvalue(), out, err) == ("", "of the program\none\ntwo\n", "an error\n")


def test_threads_of_the_program_are_not_taken_for_a_task(stderr: Caught) -> None:
    stderr.begin()
    logging.getLogger("program").info("not for stderr")
    assert stderr.getvalue() == ""


def test_the_last_fifty_lines_of_each_failed_run_are_kept(bench: Bench, stderr: Caught) -> None:
    stderr.begin()

    def runs(task: object) -> object:
        for number in range(80):
            print(f"run {current_task().attempt} line {number}")
        raise ValueError("no")

    bench.serve([1], policies={"retry": "1 0 2 600000 0 - -"})
    bench.agent(runs)
    [failed] = bench.outcome().failed
    detail = Inspector(bench.url, NAME).failed_task(0, failed.id)
    assert detail is not None
    for attempt, run in enumerate(detail.failed_runs):
        assert run.lines == tuple(f"run {attempt} line {number}" for number in range(30, 80))
    # Equal tracebacks are kept once, and the lines beside them.
    assert bench.client.hlen(bench.at.traces) == 1


def test_a_flood_of_lines_is_dropped_and_counted(bench: Bench, stderr: Caught, caplog: Any) -> None:
    stderr.begin()
    caplog.set_level(logging.INFO)

    def floods(task: object) -> object:
        for number in range(3_000):
            print(number)
        return task

    bench.serve([1])
    agent = bench.agent(floods)
    bench.outcome()
    agent.stop()
    bench.stop()
    assert len(stderr.getvalue().splitlines()) == 3_000
    kept = len(lines_of(bench))
    assert line_buffer.MAX_LINES_PER_S <= kept < MAX_TASK_LINES
    told = re.findall(r"(\d+) lines of tasks are not on the device's screen", caplog.text)
    assert sum(map(int, told)) == 3_000 - kept


def test_redis_keeps_the_last_lines_of_a_device(bench: Bench) -> None:
    bench.serve([])
    agent = bench.agent()
    session = agent.state.session
    assert session is not None
    for first in range(0, 700, 100):
        packed = [packed_line(number) for number in range(first, first + 100)]
        session.broker.append_task_lines(0, packed)
    kept = lines_of(bench)
    assert [line.text for line in kept] == [f"line {number}" for number in range(200, 700)]
    assert bench.client.pttl(bench.keys.device_lines(0)) > 0


def packed_line(number: int) -> bytes:
    from worker_agent.protocol.task_line import pack_line

    return pack_line(TaskLine(number, 0, "r" * 20, f"line {number}"))


def test_foreign_entries_among_the_lines_are_left_out(bench: Bench) -> None:
    bench.serve([])
    foreign = [b"foreign", b"\x91\x01", b"\x94\x01\x01\x01\x01"]
    bench.client.rpush(bench.keys.device_lines(0), *foreign, packed_line(1))
    assert [line.text for line in lines_of(bench)] == ["line 1"]


def test_lines_are_cut() -> None:
    assert cut_line("short") == "short" and cut_line("x" * 1_000) == "x" * 1_000
    assert len(cut_line("x" * 5_000).encode()) <= 1_000 and cut_line("x" * 5_000).endswith("x…")
    assert len(cut_line("\u20ac" * 5_000).encode()) <= 1_000
    assert cut_line("\ud800") == "\\ud800"
    speech = Speech()
    speech.tail.extend(["x" * 1_000] * 50)
    assert len(tail_of(speech)) == 16 and tail_of(None) == []


def test_the_buffer_keeps_the_newest_while_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_buffer, "MAX_LINES_PER_S", 10_000)
    buffer = LineBuffer()
    for number in range(800):
        buffer.add(TaskLine(number, 0, "", ""))
    lines, dropped = buffer.take()
    assert [line.at_ms for line in lines] == list(range(300, 800)) and dropped == 300
    assert not buffer


def test_the_programs_own_handler_stays_and_is_taken_from(
    bench: Bench, stderr: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are taken where it writes them, in its own format, and only once."""
    stderr.begin()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("mine: %(message)s"))
    logger = logging.getLogger("a.program")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    bench.run([1], lambda task: logger.info("said") or task)
    logger.removeHandler(handler)
    assert stderr.getvalue() == "Device0 ch0 #0: mine: said\n"


def test_nothing_is_kept_of_runs_that_say_nothing(bench: Bench, stderr: Caught) -> None:
    stderr.begin()
    bench.run(range(100), lambda task: task)
    assert stderr.getvalue() == "" and not SPEAKING
    assert lines_of(bench) == []
