"""What tasks and generators fork finds Python's defaults, and never goes on in our code."""

from __future__ import annotations

import signal

import pytest

from tests.agent.process_jobs import job
from tests.crashes.fleet import Fleet

KINDS = pytest.mark.parametrize("kind", ["thread", "process"])

POOLS = """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

FORK = mp.get_context("fork")

def sq(x):
    return x * x

def tasks():
    for number in range(12):
        with FORK.Pool(2) as pool:
            yield pool.map(sq, [number])

def task_function(task):
    with FORK.Pool(2) as pool:
        squares = pool.map(sq, task)
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        return [task[0], *pool.map(sq, squares)]
"""


@KINDS
def test_pools_in_tasks_and_in_the_generator_end(fleet: Fleet, kind: str) -> None:
    job(fleet, POOLS)
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    fleet.expect_each_once([[number**2, number**8] for number in range(12)])


HANDLERS = """
import json
def tasks():
    yield from [SIGNALS]

def task_function(numbers):
    reading, writing = os.pipe()
    if not os.fork():
        found = [str(signal.getsignal(number)) for number in numbers]
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 10000))
"""


@KINDS
def test_a_forked_child_finds_the_signal_handlers_that_python_starts_with(fleet: Fleet, kind: str) -> None:
    numbers = [int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIGPIPE)]
    job(fleet, HANDLERS.replace("SIGNALS", repr(numbers)))
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    python = [signal.SIG_DFL, signal.default_int_handler, signal.SIG_IGN]
    fleet.expect_each_once([[str(handler) for handler in python]])


COPIES = """
def tasks():
    for number in range(5):
        if os.fork() == 0:
            yield 'a copy'
        os.wait()
        yield number

def task_function(task):
    pid = os.fork()
    if pid == 0:
        sys.exit(task + 3)
    return [task, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
"""


@KINDS
def test_a_copy_that_comes_back_into_our_code_ends_with_its_own_status(fleet: Fleet, kind: str) -> None:
    job(fleet, COPIES)
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    fleet.expect_each_once([[number, number + 3] for number in range(5)])
