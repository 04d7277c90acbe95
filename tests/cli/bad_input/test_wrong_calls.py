"""Wrong calls of `Server(...)` and `Client(...)` in a program, and errors that end a program."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.cli import errors_page
from tests.cli.bad_input.rows import SECRET, UNREACHABLE, Servers
from tests.cli.tools import double
from tests.support.programs import Program
from worker_agent.protocol.errors import JobError

PROGRAM_ROWS = [
    ("Server(WorksNumb='5')", TypeError, r"WorksNumb must be a whole number of 0 or more, not '5'"),
    ("Server(WorksNumb=-1)", TypeError, r"WorksNumb must be a whole number of 0 or more, not -1"),
    (
        "Server(5, TasksChannelMax=0)",
        TypeError,
        r"TasksChannelMax must be a whole number of 1 or more, not 0",
    ),
    (
        "Server(5, InstructionChannelNumb=True)",
        TypeError,
        r"InstructionChannelNumb must be a whole number of 1",
    ),
    (
        "Server(5, InstructionChannelNumb=2).start([iter('a')])",
        ValueError,
        r"InstructionChannelNumb=2 and 1 generators: pass one generator for each channel, or leave "
        r"InstructionChannelNumb out",
    ),
    (
        "Server(5, resume=True, fresh=True)",
        ValueError,
        r"resume continues with .* and fresh drops it: pass one of",
    ),
    ("Server(5, name='a b')", JobError, r"'a b' cannot name a namespace: use 1 to 64 letters"),
    (
        "Server(5).start('abc')",
        TypeError,
        r"Tasks are given as a str: pass a generator that yields each task",
    ),
    ("Server(5).start([1, 2])", TypeError, r"Tasks are given as an int: pass a list with one generator"),
    (
        "Server(5).start([[1, 2]])",
        TypeError,
        r"Tasks are given as a list instead of a generator: pass \[iter",
    ),
    (
        "Server(5).start([double])",
        TypeError,
        r"Tasks are given as the function `double`, which was not called: pass \[double\(\)\]",
    ),
    (
        "Server(5).pause_one('0')",
        TypeError,
        r"N of pause_one N must be a whole number, not '0'",
    ),
    (
        "Server(5).pause_one(0)",
        RuntimeError,
        r"call start\(\) first, and call commands from another thread while it runs",
    ),
    ("Client(device='0')", TypeError, r"device must be a whole number of 0 or more, not '0'"),
    ("Client(device=0, capture=1)", TypeError, r"capture must be True or False, not 1"),
    ("Client(device=0, concurrency=0)", ValueError, r"concurrency must be 1 or more"),
    ("Client(0).initial_task_function(task_func=3)", TypeError, r"The task function is an int"),
    (
        "Client(0).initial_task_function(task_func=lambda: 1)",
        TypeError,
        r"cannot be called with the task alone: give it exactly one parameter",
    ),
    (
        "Client(0).initial_save_function(save_func=lambda a, b: 1)",
        TypeError,
        r"cannot be called with the result alone: give it exactly one parameter",
    ),
    (
        "Client(0).start()",
        TypeError,
        r"call initial_task_function\(task_func=\.\.\.\) with your function before start\(\)",
    ),
    (
        "current_task()",
        RuntimeError,
        r"current_task\(\) works only inside a task function or a save function",
    ),
]


@pytest.mark.parametrize(("code", "kind", "sentence"), PROGRAM_ROWS, ids=[row[0] for row in PROGRAM_ROWS])
def test_a_wrong_call_raises_an_error_that_says_what_to_pass(
    code: str, kind: type[Exception], sentence: str
) -> None:
    from mutitask_tui import Server
    from worker_agent import Client, current_task

    names = {"Server": Server, "Client": Client, "current_task": current_task, "double": double}
    with pytest.raises(kind, match=sentence) as raised:
        eval(code, names)
    assert errors_page.holds(str(raised.value)), f"docs/errors.md has no row for: {raised.value}"


def test_a_program_ends_with_a_sentence_if_redis_is_unreachable(
    servers: Servers, spawn: Callable[..., Program]
) -> None:
    code = "from mutitask_tui import Server; Server(2, redis_url={dead_url!r}).start([iter('abc')])"
    program = spawn(["python", "-c", code.replace("{dead_url!r}", repr(servers.values["dead_url"]))])
    assert program.wait() == 3, program
    assert re.fullmatch("mutitask: " + servers.fill(UNREACHABLE) + "\n", program.stderr), program
    assert program.stdout == "" and SECRET not in program.stderr


def test_debug_shows_the_traceback(servers: Servers, spawn: Callable[..., Program]) -> None:
    program = spawn(["mutitask", "--debug", "status", "--redis", servers.values["dead_url"]])
    assert program.wait() == 3
    assert "Traceback" in program.stderr and "RedisUnavailable" in program.stderr
    assert SECRET not in program.stderr


@pytest.mark.parametrize("number", [2**53, 10**5000], ids=["large", "unprintable"])
def test_numbers_beyond_what_redis_counts_are_refused(number: int) -> None:
    from mutitask_tui import Server
    from worker_agent import Client

    with pytest.raises(TypeError, match="must be a whole number"):
        Server(number)
    with pytest.raises(TypeError, match="must be a whole number"):
        Client(number)
    server = Server(1)
    with pytest.raises(TypeError, match="must be a whole number"):
        server.reset_max_task(number)  # type: ignore[attr-defined]
