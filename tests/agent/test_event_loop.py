"""`--kind asyncio`: all tasks of an agent are coroutines of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.crashes.fleet import wait_for_text
from worker_agent import current_task
from worker_agent.execution import blocked_loop, event_loop
from worker_agent.protocol.errors import JobError


class Gate:
    """A coroutine function that waits until the gate is opened. It notes how its runs end."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.started = 0
        self.ends: list[str] = []

    async def __call__(self, task):
        self.started += 1
        try:
            while not self.opened.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        finally:
            self.ends.append("finally")
        return task


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def test_tasks_share_what_belongs_to_a_loop_and_run_at_once(bench):
    semaphore, loops, running, most = asyncio.Semaphore(20), set(), 0, 0

    async def task_function(task):
        nonlocal running, most
        async with semaphore:
            loops.add(asyncio.get_running_loop())
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1
        return task

    bench.serve(range(500))
    bench.agent(task_function, concurrency=50, kind="asyncio")

    outcome = bench.outcome()

    assert outcome.values == list(range(500)) and not outcome.failed
    assert (len(loops), most) == (1, 20)


def test_ten_thousand_coroutines_run_at_once(bench, gate):
    bench.serve(range(10_000), capacity=10_000)
    bench.agent(gate, concurrency=10_000, kind="asyncio")

    bench.wait_for(lambda _counters: gate.started == 10_000, 40)
    gate.opened.set()

    assert bench.wait_for(lambda counters: counters.done == 10_000, 40).failed == 0


def test_plain_functions_run_in_threads_and_do_not_block_the_loop(bench):
    at_once = threading.Barrier(4)

    def task_function(task):
        at_once.wait(20)
        assert current_task().number == task
        return threading.current_thread().name

    bench.serve(range(4))
    bench.agent(task_function, concurrency=4, kind="asyncio")

    assert len(set(bench.outcome().values)) == 4


@pytest.mark.parametrize("style", ["plain", "async"])
def test_save_functions_may_be_plain_or_async(bench, style):
    saved = []

    async def task_function(task):
        return task

    async def save_later(result):
        await asyncio.sleep(0)
        saved.append((result, current_task().number))

    def save(result):
        saved.append((result, current_task().number))

    bench.serve(range(20))
    bench.agent(task_function, save if style == "plain" else save_later, concurrency=5, kind="asyncio")

    assert bench.outcome().counters.done == 20
    assert sorted(saved) == [(number, number) for number in range(20)]


def test_each_coroutine_has_its_own_current_task_also_in_what_it_starts(bench):
    async def number() -> int:
        await asyncio.sleep(0.001)
        return current_task().number

    async def task_function(task):
        first = await number()
        inside = await asyncio.gather(number(), asyncio.to_thread(lambda: current_task().number))
        return [task, first, *inside]

    bench.serve(range(30))
    bench.agent(task_function, concurrency=10, kind="asyncio")

    assert bench.outcome().values == [[number] * 4 for number in range(30)]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(), GeneratorExit()]
)
@pytest.mark.parametrize("style", ["plain", "async"])
def test_whatever_a_function_raises_fails_its_task_alone(bench, error, style):
    def plain_function(task):
        if task == 5:
            raise error
        return task

    async def async_function(task):
        return plain_function(task)

    bench.serve(range(10), retries=0)
    bench.agent(plain_function if style == "plain" else async_function, concurrency=3, kind="asyncio")

    outcome = bench.outcome()

    assert outcome.values == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [(task.number, task.stage) for task in outcome.failed] == [(5, "run")]


def test_a_run_over_its_time_limit_is_cancelled_where_it_awaits(bench, gate):
    bench.serve(range(3), retries=0)
    bench.agent(gate, concurrency=2, timeout=0.2, kind="asyncio")

    outcome = bench.outcome()

    assert [(task.stage, task.error_type) for task in outcome.failed] == [("timeout", "TimeoutError")] * 3
    assert gate.ends == ["cancelled", "finally"] * 3


def test_a_coroutine_that_ignores_its_cancellation_is_settled_without_it_and_told(
    bench, caplog, monkeypatch, wait_until
):
    monkeypatch.setattr(event_loop, "CANCEL_GRACE_S", 0.1)
    opened = threading.Event()

    async def stubborn(task):
        while task == "stubborn" and not opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return task

    bench.serve(["stubborn", *range(20)], retries=0)
    agent = bench.agent(stubborn, concurrency=1, timeout=0.2, kind="asyncio")

    outcome = bench.outcome()

    assert [task.stage for task in outcome.failed] == ["timeout"]
    assert outcome.values == list(range(20)), "another slot took its place"
    assert "task 0 ignores its cancellation" in caplog.text
    opened.set()
    wait_until(lambda: not agent._executor._tasks, what="the coroutine has ended")
    assert bench.counters().done == 20


def test_a_stop_that_does_not_wait_cancels_and_hands_back(bench, gate, wait_until):
    bench.serve(range(3), retries=0)
    agent = bench.agent(gate, concurrency=3, kind="asyncio")
    wait_until(lambda: gate.started == 3)

    agent.stop()
    agent.stop()

    bench.wait_for(lambda counters: counters.waiting == 3)
    assert gate.ends == ["cancelled", "finally"] * 3


def test_a_lost_lease_cancels_what_runs_and_the_tasks_run_again(bench, gate, wait_until):
    bench.serve(range(3), retries=0)
    agent = bench.agent(gate, concurrency=3, kind="asyncio")
    wait_until(lambda: gate.started == 3)

    session = agent.state.session
    session.heartbeat_broker.fence(session.actor.id)

    wait_until(lambda: gate.ends == ["cancelled", "finally"] * 3, 30, what="the runs were cancelled")
    gate.opened.set()
    assert bench.outcome().values == list(range(3))


def test_a_cancelled_task_fails_without_retry_and_says_who_asked(bench, gate, wait_until):
    bench.serve(range(2), retries=3)
    agent = bench.agent(gate, concurrency=2, kind="asyncio")
    wait_until(lambda: gate.started == 2)
    id_ = next(task.item[2:22].decode() for task in agent.in_flight.running.values())

    assert agent._executor.cancel(id_, "anna on host7") == ""
    assert "does not run" in agent._executor.cancel("x" * 20, "anna")

    bench.wait_for(lambda counters: counters.failed == 1)
    gate.opened.set()
    (failed,) = bench.outcome().failed
    assert (failed.stage, failed.error) == ("cancelled", "anna on host7 cancelled it")


def test_a_plain_function_cannot_be_cancelled_and_that_is_said_at_once(bench, wait_until):
    opened, started = threading.Event(), threading.Event()

    def task_function(task):
        started.set()
        opened.wait(20)
        return task

    bench.serve([1])
    agent = bench.agent(task_function, kind="asyncio")
    assert started.wait(20)
    (running,) = agent.in_flight.running.values()

    assert "cannot be stopped" in agent._executor.cancel(running.item[2:22].decode(), "anna")
    assert running.cancel_asked_by == "anna"
    opened.set()
    assert bench.outcome().values == [1]


def test_a_function_that_blocks_the_loop_is_named(bench, caplog, monkeypatch, wait_until):
    monkeypatch.setattr(blocked_loop, "BLOCKED_S", 0.2)
    monkeypatch.setattr(blocked_loop, "LOOK_S", 0.05)

    async def blocking(task):
        time.sleep(0.6)
        return task

    bench.serve([1])
    bench.agent(blocking, kind="asyncio")

    wait_until(lambda: "blocked the event loop for" in caplog.text, what="the log names the function")
    assert "blocking, test_event_loop.py:" in caplog.text
    assert bench.outcome().values == [1]


@pytest.mark.parametrize("kind", ["thread", "asyncio"])
def test_setup_and_teardown_are_called_once_around_all_tasks(bench, kind):
    events = []

    async def setup(device):
        await asyncio.sleep(0.01)
        events.append(f"setup {device}")

    def teardown():
        events.append("teardown")

    def task_function(task):
        events.append("task")
        return task

    bench.serve(range(3))
    lifecycle = lambda _channel: (setup, teardown)  # noqa: E731
    bench.agent(task_function, concurrency=2, kind=kind, lifecycle=lifecycle)
    assert bench.outcome().values == [0, 1, 2]
    bench.stop()

    assert events == ["setup 0", "task", "task", "task", "teardown"]


def test_a_plain_setup_runs_on_the_loop_that_the_tasks_run_on(bench):
    made = {}

    def setup():
        made["loop"] = asyncio.get_running_loop()

    async def task_function(_task):
        return asyncio.get_running_loop() is made["loop"]

    bench.serve([1])
    bench.agent(task_function, kind="asyncio", lifecycle=lambda _channel: (setup, None))

    assert bench.outcome().values == [True]


ASYNC_JOB = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent

async def tasks():
    for number in range(2_500):
        if number % 500 == 0:
            await asyncio.sleep(0.001)
        yield number

async def total():
    await asyncio.sleep(0)
    return 2_500

async def on_allotted(count, last_item):
    await asyncio.sleep(0)
    (HERE / "allotted").write_text(f"{count} {last_item}")

async def setup(device):
    global semaphore
    semaphore = asyncio.Semaphore(5)

async def teardown():
    (HERE / "torn_down").touch()

async def task_function(task):
    async with semaphore:
        await asyncio.sleep(0.001)
    return asyncio.current_task() is not None
"""


def test_a_job_of_coroutines_runs_on_one_loop_without_being_told(fleet):
    fleet.job_path.write_text(ASYNC_JOB)
    server = fleet.serve("--local-agents", "1", "--concurrency", "50", "--until-done")

    assert server.wait() == 0, server

    assert len(fleet.results()) == 2_500
    assert (fleet.folder / "allotted").read_text() == "2500 2499"
    assert (fleet.folder / "torn_down").exists()


def test_too_high_a_concurrency_is_refused_with_the_limit_of_the_kind(fleet, spawn):
    fleet.job_path.write_text("def task_function(task):\n    return task\n")
    agent = spawn(["worker-agent", fleet.job_path, "--concurrency", "5000"])
    assert agent.wait() != 0
    assert "--concurrency is 1000 at most with --kind thread, not 5000" in agent.stderr


@pytest.mark.parametrize("kind", ["thread", "asyncio"])
def test_a_setup_that_raises_is_told_like_a_job_that_cannot_be_loaded(fleet, kind):
    fleet.job_path.write_text(
        "def tasks():\n    yield 1\n\ndef setup():\n    raise OSError('no licence here')\n\n"
        "async def task_function(task):\n    return task\n"
    )
    fleet.serve()
    agent = fleet.agent("--kind", kind)

    wait_for_text(agent, "job.py: setup `setup` failed, line 5, OSError: no licence here")
    assert agent.wait() == JobError.exit_status
    assert fleet.counters().waiting == 1


def test_without_uvloop_the_loop_is_asyncios_own(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def task_function(_task):
        return type(asyncio.get_running_loop()).__module__

    bench.serve([1])
    bench.agent(task_function, kind="asyncio")

    assert bench.outcome().values[0].startswith("asyncio.")


def test_a_client_with_a_coroutine_function_runs_it_on_one_loop(fleet, spawn):
    program = fleet.folder / "program.py"
    program.write_text(
        """
import asyncio, sys
from worker_agent import Client

seen = []

async def setup():
    seen.append(asyncio.get_running_loop())

async def solve(task):
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop() is seen[0] and len(seen) == 1

client = Client(0, redis_url=sys.argv[1], name=sys.argv[2], concurrency=20, setup=setup)
client.initial_task_function(task_func=solve)
client.start()
"""
    )
    fleet.job_path.write_text("def tasks():\n    yield from range(50)\n\ndef task_function(task): ...\n")
    fleet.serve()
    spawn(["python", program, fleet.redis.url, "crash"])

    fleet.wait_until_over(50)
    assert {result.value for result in fleet.results()} == {True}
