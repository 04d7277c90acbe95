"""A process that a task or a generator forks gets Python's defaults, and never runs MutiTask's code."""

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
def test_process_pools_in_tasks_and_in_the_generator_end(fleet: Fleet, kind: str) -> None:
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
def test_a_forked_child_gets_the_signal_handlers_that_python_starts_with(fleet: Fleet, kind: str) -> None:
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
def test_a_forked_copy_that_returns_into_mutitasks_code_ends_with_its_own_status(
    fleet: Fleet, kind: str
) -> None:
    job(fleet, COPIES)
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    fleet.expect_each_once([[number, number + 3] for number in range(5)])


SOCKETS = """
import os, socket
PORT = {port}

def to_redis():
    found = 0
    for number in range(3, 200):
        try:
            sock = socket.socket(fileno=number)
        except OSError:
            continue
        try:
            found += sock.getpeername()[1] == PORT
        except (OSError, IndexError):
            pass
        sock.detach()
    return found

def in_child():
    # Another thread may just be connecting. That socket cannot be found yet.
    return min((in_one_child() for _ in range(5)), key=lambda found: found[1])

def in_one_child():
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, b"%d" % to_redis())
        os._exit(0)
    os.wait()
    found = [to_redis() > 0, int(os.read(reading, 10))]
    os.close(reading)
    os.close(writing)
    return found

def tasks():
    yield in_child()
    yield from ([n] for n in range(20))

def task_function(task):
    return [task, in_child()]
"""


@KINDS
def test_a_forked_child_holds_none_of_mutitasks_connections(fleet: Fleet, kind: str) -> None:
    job(fleet, SOCKETS.replace("{port}", str(fleet.client.connection_pool.connection_kwargs["port"])))
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    own = kind == "thread"
    fleet.expect_each_once([[task, [own, 0]] for task in ([True, 0], *([n] for n in range(20)))])


SPAWNED = """
import multiprocessing as mp

def sq(x):
    return x * x

def squares(numbers):
    with mp.get_context("METHOD").Pool(2) as pool:
        return pool.map(sq, numbers)

def tasks():
    for number in range(2):
        yield squares([number])

def task_function(task):
    return squares(task)
"""

LOKY = """
from joblib import Parallel, delayed

def sq(x):
    return x * x

def squares(numbers):
    return Parallel(n_jobs=2)(delayed(sq)(number) for number in numbers)

def tasks():
    for number in range(2):
        yield squares([number, number + 1])[:1]

def task_function(task):
    return squares([*task, 7])[:1]
"""


@KINDS
@pytest.mark.parametrize("how", ["spawn", "forkserver", "loky"])
def test_spawned_processes_find_the_jobs_functions(fleet: Fleet, kind: str, how: str) -> None:
    job(fleet, LOKY if how == "loky" else SPAWNED.replace("METHOD", how))
    fleet.serve()

    fleet.agent("--device", "0", "--kind", kind)

    fleet.expect_each_once([[number**4] for number in range(2)])
