"""`cancel_task`: a running task ends at stage `cancelled`, without a retry; what cannot end is said at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mutitask_tui.server.commands.registry import CommandError
from tests.agent.process_jobs import PROCESS, job, noted
from tests.crashes.fleet import Fleet
from worker_agent.protocol.cancels import CancelRequest, parse_answer, parse_requests


class Held:
    """A task function whose tasks run until they are released, and then return themselves or raise."""

    def __init__(self, *, raises: bool) -> None:
        self.released = threading.Event()
        self.begun = threading.Event()
        self.runs = 0
        self._raises = raises

    def __call__(self, task):
        self.runs += 1
        self.begun.set()
        assert self.released.wait(60)
        if self._raises:
            raise RuntimeError("stopped")
        return task


@pytest.fixture
def held(request):
    made = Held(raises=getattr(request, "param", True))
    yield made
    made.released.set()


def test_a_thread_that_ends_after_it_was_asked_fails_at_stage_cancelled_without_a_retry(bench, held):
    bench.serve(["one"], retries=3)
    bench.agent(held)
    assert held.begun.wait(20)

    outcome = bench.commands.cancel_task(0, "0")

    assert outcome.data["state"] == "asked" and outcome.data["device"] == 0
    assert "threads cannot be killed, so its function was asked" in outcome.text
    assert "current_task().cancelled" in outcome.text
    held.released.set()
    (failed,) = bench.outcome().failed
    assert (failed.stage, failed.error_type, failed.runs, held.runs) == ("cancelled", "TaskCancelled", 1, 1)
    assert failed.error == f"{bench.commands.source} cancelled it"


@pytest.mark.parametrize("held", [False], indirect=True)
def test_a_thread_that_does_not_look_keeps_its_result(bench, held):
    bench.serve(["one", "two"], retries=0)
    bench.agent(held)
    assert held.begun.wait(20)
    bench.commands.cancel_task(0, "0")

    held.released.set()

    outcome = bench.outcome()
    assert (outcome.values, outcome.failed) == (["one", "two"], [])


def test_what_does_not_run_is_refused_with_one_sentence(bench, held):
    bench.serve(["one", "two"], retries=0)
    bench.agent(held)
    assert held.begun.wait(20)
    for id_, why in {
        "1": "task 1 does not run: no agent has claimed it from TaskChannel0",
        "99": "task 99 does not run: no agent has claimed it from TaskChannel0",
        "nonsense": "task nonsense does not run: no agent has claimed it from TaskChannel0",
    }.items():
        with pytest.raises(CommandError, match=why):
            bench.commands.cancel_task(0, id_)
    with pytest.raises(CommandError, match="there is no TaskChannel5"):
        bench.commands.cancel_task(5, "0")
    held.released.set()
    bench.outcome()
    with pytest.raises(CommandError, match="so it waits, is done or has failed"):
        bench.commands.cancel_task(0, "0")


def test_a_task_that_has_not_started_is_refused(bench, held):
    """Short tasks are claimed ahead of a running one."""
    bench.serve([*range(200), "held", *range(200)], retries=0)
    bench.agent(lambda task: held(task) if task == "held" else task)
    assert held.begun.wait(20)
    agent = bench.agents[0]
    queued = list(agent.in_flight.queue)
    if queued:  # They are handed back half a second after the held task began.
        with pytest.raises(CommandError, match=r"does not run( on Device0: it has not started|: no agent)"):
            bench.commands.cancel_task(0, queued[0][3][2:22].decode())
    held.released.set()
    assert len(bench.outcome().failed) == 1


def test_an_agent_whose_token_was_lost_follows_with_its_next_heartbeat(bench, held):
    bench.serve(["one"], retries=0)
    agent = bench.agent(held)
    assert held.begun.wait(20)
    (running,) = agent.in_flight.running.values()
    request = CancelRequest.new(running.item[2:22].decode(), "a test")
    session = agent.state.session

    bench.commands.call(lambda b: b.request_cancel(request, {}))  # Without a token and without an agent.
    bench.client.hset(bench.keys.desired_cancels, session.actor.id, f"{9_999_999_999_999} {request.line()}")

    bench.wait_for(lambda _: running.cancel_asked_by == "a test", timeout=5)


def test_a_running_process_is_killed_and_its_task_fails_at_stage_cancelled(fleet: Fleet) -> None:
    job(
        fleet,
        """
def tasks():
    yield from ["a", "hang", "b"]
def task_function(task):
    if task == "hang":
        note("child", os.getpid())
        time.sleep(600)
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*PROCESS)
    child = int(noted(fleet, "child"))

    said = fleet.ctl("cancel_task", "0", "1")

    assert said == "task 1 was cancelled on Device0: it fails at stage cancelled, without a retry\n"
    fleet.wait_for(lambda c: c.failed == 1 and c.done == 2)
    (failed,) = fleet.failed()
    assert (failed.stage, failed.runs) == ("cancelled", 1) and failed.error.endswith("cancelled it")
    assert not Path(f"/proc/{child}").exists()
    assert agent.running and "died" not in agent.stderr


def test_a_process_that_survives_sigterm_is_killed_after_a_second(fleet: Fleet) -> None:
    job(
        fleet,
        """
def tasks():
    yield from ["hang"]
def task_function(task):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("child", os.getpid())
    while True:
        time.sleep(600)
""",
    )
    fleet.serve()
    fleet.agent(*PROCESS)
    noted(fleet, "child")

    fleet.ctl("cancel_task", "0", "0")

    fleet.wait_for(lambda c: c.failed == 1)
    (failed,) = fleet.failed()
    assert failed.stage == "cancelled"


def test_a_task_that_ends_by_an_exception_of_its_own_at_sigterm_is_cancelled_too(fleet: Fleet) -> None:
    job(
        fleet,
        """
def tasks():
    yield from ["hang", "b"]
def task_function(task):
    if task == "b":
        return task
    def stop(*_):
        raise ValueError("tidied up")
    signal.signal(signal.SIGTERM, stop)
    note("child", os.getpid())
    time.sleep(600)
""",
    )
    fleet.serve()
    fleet.agent(*PROCESS)
    noted(fleet, "child")

    fleet.ctl("cancel_task", "0", "0")

    fleet.wait_for(lambda c: c.failed == 1 and c.done == 1)
    (failed,) = fleet.failed()
    assert (failed.stage, failed.runs) == ("cancelled", 1)


def test_only_the_cancelled_task_of_a_batch_fails_and_no_other_one_crashes(fleet: Fleet) -> None:
    """Short tasks travel to a child in batches. Those behind the cancelled task go to the next child."""
    job(
        fleet,
        """
def tasks():
    yield from range(4000)
def task_function(task):
    if task == 2000:
        note("child", os.getpid())
        time.sleep(600)
    return task
""",
    )
    fleet.serve("--capacity", "2000")
    fleet.agent(*PROCESS)
    noted(fleet, "child")

    fleet.ctl("cancel_task", "0", "2000")

    fleet.wait_for(lambda c: c.exhausted and c.open == 0, 60)
    counters = fleet.counters()
    assert (counters.done, counters.failed, counters.errors) == (3999, 1, 1)
    assert all(recorded.crashes == 0 for recorded in fleet.results())


ASYNCIO = ("--device", "0", "--kind", "asyncio", "--concurrency", "10")


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one loop", "two processes"])
def test_a_coroutine_is_cancelled_where_it_awaits_and_its_finally_runs(
    fleet: Fleet, options: tuple[str, ...]
) -> None:
    job(
        fleet,
        """
import asyncio
def tasks():
    yield from ["hang", *range(20)]
async def task_function(task):
    if task == "hang":
        note("began", "")
        try:
            await asyncio.sleep(600)
        finally:
            note("finally", "ran")
    return task
""",
    )
    fleet.serve()
    agent = fleet.agent(*ASYNCIO, *options)
    noted(fleet, "began")

    said = fleet.ctl("cancel_task", "0", "0")

    assert said == "task 0 was cancelled on Device0: it fails at stage cancelled, without a retry\n"
    assert noted(fleet, "finally") == "ran"
    fleet.wait_for(lambda c: c.failed == 1 and c.done == 20)
    (failed,) = fleet.failed()
    assert (failed.stage, failed.error_type, failed.runs) == ("cancelled", "TaskCancelled", 1)
    assert agent.running


def test_a_plain_function_beside_coroutines_is_asked_like_a_thread(fleet: Fleet) -> None:
    job(
        fleet,
        """
def tasks():
    yield "hang"
def task_function(task):
    note("began", "")
    wait_for("release")
    raise RuntimeError("stopped")
""",
    )
    fleet.serve()
    fleet.agent(*ASYNCIO)
    noted(fleet, "began")

    said = fleet.ctl("cancel_task", "0", "0")

    assert "runs in a thread, which cannot be stopped: it was asked" in said
    (fleet.folder / "release").touch()
    fleet.wait_for(lambda c: c.failed == 1)
    (failed,) = fleet.failed()
    assert (failed.stage, failed.runs) == ("cancelled", 1)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "1", "0000000000000 a", "0000000000000 a b", "x" * 14, "\0" * 40, "0000000000000  b c"],
)
def test_requests_that_are_none_are_left_out(text: str) -> None:
    assert parse_requests(text) == ()


def test_the_one_who_asked_is_shown_as_printable_text() -> None:
    (request,) = parse_requests("0000000000000 a b \x1b[31mme\u202e")
    assert request == CancelRequest("a", "b", "[31mme")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x00\xa1x\xa0", b"\x91\x00", b"\x93\xa1x\xa5asked\xa0"])
def test_answers_that_are_none_are_ignored(data: bytes) -> None:
    assert parse_answer(data) is None
