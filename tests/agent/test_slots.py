"""A slot survives whatever a task does to it, and a stopping agent leaves in order."""

from __future__ import annotations

import pytest

from tests.agent.process_jobs import job, noted
from tests.crashes.fleet import Fleet, wait_for_text
from worker_agent.protocol import codec, wire

KINDS = pytest.mark.parametrize("kind", ["thread", "process"])

NAMELESS = """
class M(type):
    __name__ = property(lambda c: 1 / 0)

class E(Exception, metaclass=M):
    pass

def tasks():
    yield from range(20)

def task_function(task):
    if task == 3:
        raise E()
    return task
"""


@KINDS
def test_an_error_whose_class_has_no_name_is_an_ordinary_failure(fleet: Fleet, kind: str) -> None:
    job(fleet, NAMELESS)
    fleet.serve("--retries", "0")

    fleet.agent("--device", "0", "--kind", kind)

    fleet.wait_for(lambda counters: counters.done == 19 and counters.failed == 1)
    (failed,) = fleet.failed()
    assert failed.error_type == "E"


PATCHING = """
import msgpack

def tasks():
    yield from range(20)

def task_function(task):
    msgpack.packb = msgpack.unpackb = msgpack.Packer = lambda *a, **k: b"x"
    return (task,)
"""


@KINDS
def test_a_task_that_replaces_names_of_a_library_does_not_affect_mutitask(fleet: Fleet, kind: str) -> None:
    job(fleet, PATCHING)
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    fleet.expect_each_once([(number,) for number in range(20)])


def test_packing_does_not_use_a_patched_msgpack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("packb", "unpackb", "Packer", "Unpacker"):
        monkeypatch.setattr(f"msgpack.{name}", None)

    assert wire.unpack(wire.pack({"a": (1, 2)})) == {"a": (1, 2)}
    assert codec.unpackb(codec.packb([1])) == [1]


INVALID = """
import worker_agent.execution.child

def tasks():
    yield from range(6)

def task_function(task):
    if task == 2 and not Path(FOLDER, "once").exists():
        note("once", "")
        worker_agent.execution.child.frame = lambda message: (1).to_bytes(4, "little") + b"x"
        sys.modules["__main__"].frame = worker_agent.execution.child.frame
    return task
"""


def test_a_child_that_sends_an_invalid_answer_is_replaced_and_its_task_runs_again(fleet: Fleet) -> None:
    job(fleet, INVALID)
    fleet.serve()

    agent = fleet.agent("--device", "0", "--kind", "process")

    wait_for_text(agent, "a child process sent an invalid answer")
    fleet.expect_each_once(list(range(6)))


HANGING = """
def tasks():
    yield 1

def task_function(task):
    note("started", "")
    wait_for("never")
"""


def test_a_drain_timeout_hands_back_running_tasks(fleet: Fleet) -> None:
    job(fleet, HANGING)
    fleet.serve()
    agent = fleet.agent("--device", "0", "--drain-timeout", "0.2")
    noted(fleet, "started")

    agent.terminate()

    assert agent.wait() == 1, agent
    assert "for 1 running tasks, 0.2 s at most" in agent.stderr
    assert "tasks that still run after 0.2 s (--drain-timeout) are handed back" in agent.stderr
    assert (fleet.counters().waiting, fleet.counters().claimed) == (1, 0)


def test_a_second_stop_command_hands_back_running_tasks(fleet: Fleet) -> None:
    job(fleet, HANGING)
    fleet.serve()
    agent = fleet.agent("--device", "0")
    noted(fleet, "started")
    fleet.ctl("stop_one", "0")
    wait_for_text(agent, "stopping: waiting for 1 running tasks, without a limit")

    fleet.ctl("stop_one", "0")

    assert agent.wait() == 1, agent
    assert (fleet.counters().waiting, fleet.counters().claimed) == (1, 0)


def test_an_agent_reports_its_last_counts_before_it_leaves(fleet: Fleet) -> None:
    job(fleet, "def tasks():\n    yield from range(50)\n\ndef task_function(task):\n    return task\n")
    fleet.serve()
    agent = fleet.agent("--device", "0")
    fleet.wait_until_over(50)

    agent.terminate()

    assert agent.wait() == 0, agent
    assert (fleet.device(0).state, fleet.device(0).done) == ("offline", 50)


PATCHED = """
import types

monkey = types.ModuleType("gevent.monkey")
monkey.is_module_patched = lambda name: name == "threading"
sys.modules["gevent.monkey"] = monkey

def tasks():
    yield from range(5)

def task_function(task):
    return task
"""


def test_an_agent_refuses_threads_that_a_library_replaced_and_processes_work(fleet: Fleet) -> None:
    job(fleet, PATCHED)
    fleet.serve()

    refused = fleet.candidate("--device", "0")

    assert refused.wait() == 2, refused
    assert "gevent has replaced Python's threads" in refused.stderr
    assert "--kind process" in refused.stderr
    fleet.agent("--device", "0", "--kind", "process")
    fleet.expect_each_once(list(range(5)))
