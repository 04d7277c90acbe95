"""Bad input: each a row with its command line, exit status and sentence. Nothing is lost, no traceback is shown.

`docs/errors.md` has a row for each sentence; `tests/cli/test_docs.py` looks for those that stand nowhere here.
"""

# ruff: noqa: E501 (a sentence stands on one line, to be searched for)

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli import errors_page
from tests.cli.tools import House, double, mutitask, no_agents_left, write_job
from tests.support.programs import Program
from tests.support.redis_server import RealServer, free_port
from worker_agent.protocol import wire
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.keys import Keys

__all__ = ["no_agents_left"]

SECRET = "s3cret-of-the-url"
GOOD = """
def tasks():
    yield from range(5)
def task_function(task):
    return task
"""
TWO_CHANNELS = """
def one():
    yield from range(5)
tasks = [one, one]
def task_function(task):
    return task
"""


@dataclass(frozen=True)
class Row:
    """`line` with {url}, {job} and the like filled in must end with `status` and say `says` (a regex) once."""

    id: str
    line: str
    status: int
    says: str
    job: str = GOOD
    process: bool = False
    """Whether a process of its own runs it; else it runs in this one."""


REDIS = "--redis {url}"
HELD = "--redis {url} --name held"

JOB_ROWS = [
    Row(
        "job missing",
        "mutitask run nowhere.py",
        2,
        r"nowhere\.py cannot be read \(No such file or directory\): name a job file, such as job\.py\.",
        process=True,
    ),
    Row("job is a directory", "mutitask run .", 2, r"\. is a directory: name a job file, such as job\.py\."),
    Row(
        "job is no .py",
        "mutitask run {text}",
        2,
        r"notes\.txt is no Python file: a job file's name ends in \.py\.",
    ),
    Row(
        "job with a syntax error",
        "mutitask run {job}",
        2,
        r"job\.py cannot be loaded, line 2, SyntaxError: .*: mend that line\.",
        "\ndef tasks(:\n",
        process=True,
    ),
    Row(
        "job that raises",
        "mutitask run {job}",
        2,
        r"job\.py cannot be loaded, line 2, ZeroDivisionError: division by zero: mend that line\.",
        "\n1 / 0\n",
        process=True,
    ),
    Row(
        "job that exits",
        "mutitask run {job}",
        2,
        r"cannot be loaded, line 2, SystemExit: .*: put what ends the program under `if __name__ == '__main__':`\.",
        "\nraise SystemExit('bye')\n",
    ),
    Row(
        "job imports what is not there",
        "mutitask run {job}",
        2,
        r"ModuleNotFoundError: No module named 'nosuchmodule': install what it imports in this Python environment\.",
        "import nosuchmodule\n",
    ),
    Row(
        "no tasks",
        "mutitask run {job}",
        2,
        r"job\.py has no `tasks`: add a generator function, `def tasks\(\): \.\.\.`, that yields each task\.",
        "def task_function(t): return t\n",
    ),
    Row(
        "no task_function",
        "mutitask run {job}",
        2,
        r"job\.py has no `task_function`: add `def task_function\(task\): \.\.\.`, which returns the task's result\.",
        "def tasks(): yield 1\n",
    ),
    Row(
        "tasks is a string",
        "mutitask run {job}",
        2,
        r"Tasks are given as a str: pass a generator that yields each task, \[tasks\(\)\]\.",
        "tasks = 'abc'\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is a list of values",
        "mutitask run {job}",
        2,
        r"Tasks are given as an int: pass a list with one generator for each channel, \[tasks\(\)\]\.",
        "tasks = [1, 2, 3]\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is empty",
        "mutitask run {job}",
        2,
        r"The list of generators is empty: pass one generator for each channel, \[tasks\(\)\]\.",
        "tasks = []\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is a range",
        "mutitask run {job}",
        2,
        r"Tasks are given as a range in the place of a generator: pass \[iter\(\.\.\.\)\] of it, or a generator, \[tasks\(\)\]\.",
        "tasks = range(5)\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks has a parameter",
        "mutitask run {job}",
        2,
        r"`tasks` has a parameter: give tasks as a generator function without any, or call it, `tasks\(\.\.\.\)`\.",
        "def tasks(n): yield n\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks returns a list",
        "mutitask run {job}",
        2,
        r"`tasks\(\)` returned a list, and no iterator: let it `yield` each task\.",
        "def tasks(): return [1]\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks raises when called",
        "mutitask run {job}",
        2,
        r"calling `tasks` failed, line 2, RuntimeError: no list\.",
        "def tasks():\n  raise RuntimeError('no list')\ndef task_function(t): return t\n",
    ),
    Row(
        "the same generator twice",
        "mutitask run {job}",
        2,
        r"The same generator stands there twice: call its function once for each channel\.",
        "def t():\n  yield 1\ng = t()\ntasks = [g, g]\ndef task_function(t): return t\n",
    ),
    Row(
        "fewer functions than channels",
        "mutitask run {job}",
        2,
        r"has 2 generators and 1 task functions: give `task_functions` one for each, or a `task_function` for all\.",
        "def t():\n  yield 1\ntasks = [t, t]\ntask_functions = [lambda t: t]\n",
    ),
    Row(
        "task function without a parameter",
        "mutitask run {job}",
        2,
        r"The task function `task_function\(.*\)` cannot be called with the task alone: give it exactly one parameter\.",
        "def tasks(): yield 1\ndef task_function(): return 1\n",
    ),
    Row(
        "task function with two parameters",
        "worker-agent {job}",
        2,
        r"The task function `task_function\(.*\)` cannot be called with the task alone: give it exactly one parameter\.",
        "def task_function(a, b): return 1\n",
        process=True,
    ),
    Row(
        "save function with two parameters",
        "worker-agent {job}",
        2,
        r"The save function `save_function\(a, b\)` cannot be called with the result alone: give it exactly one parameter\.",
        "def task_function(a): return 1\ndef save_function(a, b): pass\n",
        process=True,
    ),
    Row(
        "no function for the channel",
        "worker-agent {job} --channel 3",
        2,
        r"has no task function for channel 3: its `task_functions` are for 1\.",
        "task_functions = [lambda t: t]\n",
        process=True,
    ),
]

UNREACHABLE = (
    r"Redis at 127\.0\.0\.1:{dead}/0 cannot be reached: Connection refused; "
    r"check that it runs and can be reached from here, or name another with --redis"
)
WRONG = r"Redis at 127\.0\.0\.1:{port}/0 refuses the password; pass the right one in --redis"
UNALLOWED = (
    r"Redis at 127\.0\.0\.1:{port}/0 denies this user a right that MutiTask needs \(.*\); "
    r"grant the rights that docs/security\.md lists for its role, or name another user in --redis"
)

REDIS_ROWS = [
    Row("status, unreachable", "mutitask status --redis {dead_url}", 3, UNREACHABLE, process=True),
    Row("ctl, unreachable", "mutitask ctl pause_all --redis {dead_url}", 3, UNREACHABLE),
    Row("run, unreachable", "mutitask run {job} --headless --redis {dead_url}", 3, UNREACHABLE, process=True),
    Row("results, unreachable", "mutitask results export --redis {dead_url}", 3, UNREACHABLE),
    Row("status, wrong password", "mutitask status --redis {wrong_url}", 3, WRONG, process=True),
    Row("ctl, wrong password", "mutitask ctl pause_all --redis {wrong_url}", 3, WRONG),
    Row("run, wrong password", "mutitask run {job} --headless --redis {wrong_url}", 3, WRONG),
    Row("agent, wrong password", "worker-agent {job} --redis {wrong_url}", 3, WRONG, process=True),
    Row("status, no rights", "mutitask status --redis {weak_url}", 3, UNALLOWED),
    Row("run, no rights", "mutitask run {job} --headless --redis {weak_url}", 3, UNALLOWED),
    Row("agent, no rights", "worker-agent {job} --redis {weak_url}", 3, UNALLOWED, process=True),
    Row(
        "not a URL",
        "mutitask status --redis http://:{secret}@host/1",
        3,
        r"http://host/1 is not an address that can be used(?: \(.*\))?; write redis://\[user:password@\]host:port/db, unix:///path, redis\+sentinel://.* or redis\+cluster://.*",
    ),
    Row(
        "a port that is none",
        "mutitask status --redis redis://:{secret}@127.0.0.1:no/0",
        3,
        r"is not an address that can be used(?: \(.*\))?; write redis://",
    ),
    Row(
        "an agent's URL that is none",
        "worker-agent {job} --redis nonsense",
        3,
        r"is not an address that can be used(?: \(.*\))?; write redis://",
        process=True,
    ),
    Row(
        "a bad name",
        "mutitask status --name ../x",
        2,
        r"'\.\./x' cannot name a namespace: use 1 to 64 letters, digits, dots, dashes and underscores\.",
    ),
    Row(
        "a bad name for run",
        "mutitask run {job} --name a/b",
        2,
        r"'a/b' cannot name a namespace: use 1 to 64 letters",
    ),
    Row(
        "a bad name for an agent",
        "worker-agent {job} --name a/b",
        2,
        r"'a/b' cannot name a namespace: use 1 to 64 letters",
        process=True,
    ),
    Row(
        "--listen and --redis",
        "mutitask run {job} --listen 127.0.0.2 --redis {url}",
        2,
        r"--listen is for the embedded Valkey; leave out --redis and MUTITASK_REDIS_URL",
    ),
    Row(
        "--listen on what is no address",
        "mutitask run {job} --headless --listen no.such.host.invalid",
        3,
        r"Cannot listen on 'no\.such\.host\.invalid': it is neither an address nor a known host; use an address of this machine\.",
    ),
    Row(
        "--listen on another machine's address",
        "mutitask run {job} --headless --listen 192.0.2.7",
        3,
        r"Cannot listen on 192\.0\.2\.7: this machine has no such address; use one that it has\.",
    ),
    Row(
        "nothing known of that name",
        "mutitask status --name unheard",
        3,
        r"no server of namespace 'unheard' is known on this machine: start one with `mutitask run JOB`, or pass its address with --redis",
    ),
    Row(
        "evicting Redis",
        "mutitask run {job} --headless --redis {evicting}",
        3,
        r"evicts keys when memory runs short, which would lose tasks; set maxmemory-policy to noeviction",
    ),
]

NAMESPACE_ROWS = [
    Row(
        "status of nothing",
        "mutitask status --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at 127\.0\.0\.1:{port}/0: start it with `mutitask run JOB`, or name another with --name",
        process=True,
    ),
    Row(
        "results of nothing",
        "mutitask results export --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at ",
    ),
    Row(
        "ctl on nothing",
        "mutitask ctl pause_all --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at ",
    ),
    Row(
        "results of no such channel",
        f"mutitask results export {HELD} --channel 9",
        2,
        r"there is no channel 9; the channels are 0 to 1",
    ),
    Row(
        "holds work",
        f"mutitask run {{two}} --headless {HELD}",
        5,
        r"namespace 'held' holds work \(6 waiting, 1 failed, 9 results\): pass --resume to continue with it, --fresh to drop it, or another --name",
        process=True,
    ),
    Row(
        "other channels",
        f"mutitask run {{job}} --headless --resume {HELD}",
        5,
        r"namespace 'held' has 2 channels and this job 1; resume it with the job that started it, or pass --fresh or another --name",
    ),
    Row(
        "a second server",
        "mutitask run {job} --headless --redis {url} --name live",
        4,
        r"namespace 'live' already has a server: \S+ pid \d+, since .*; open its dashboard with `mutitask attach --name live`, or take another --name",
        process=True,
    ),
    Row(
        "a second server, even afresh",
        "mutitask run {job} --headless --fresh --redis {url} --name live",
        4,
        r"namespace 'live' already has a server",
    ),
    Row(
        "a second agent",
        "worker-agent {job} --redis {url} --name live --device 0",
        4,
        r"Device0 already has an agent: \S+ pid \d+, since .*; choose another --device, or stop that agent",
        process=True,
    ),
    Row(
        "an agent's channel",
        "worker-agent {job} --redis {url} --name live --device 5 --channel 9",
        2,
        r"channel 9 does not exist: namespace 'live' has 1 channels, numbered from 0",
        process=True,
    ),
    Row(
        "an agent of another version",
        "worker-agent {job} --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 1\.2; install the same minor version of MutiTask on both sides",
        process=True,
    ),
    Row(
        "a server of another version",
        "mutitask run {job} --headless --resume --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 1\.2; install",
    ),
    Row(
        "ctl of another version",
        "mutitask ctl pause_all --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 1\.2; install",
    ),
    Row(
        "attach without a terminal",
        "mutitask attach --redis {url} --name live",
        2,
        r"attach needs a terminal; `mutitask status` prints the same information once",
        process=True,
    ),
]

CTL_ROWS = [
    Row(
        "no such command",
        f"mutitask ctl pause_on 0 {HELD}",
        2,
        r"no command is called 'pause_on'; did you mean pause_one\?",
        process=True,
    ),
    Row(
        "nothing like a command",
        f"mutitask ctl zzz {HELD}",
        2,
        r"no command is called 'zzz'; `help` lists them",
    ),
    Row("an argument too few", f"mutitask ctl pause_one {HELD}", 2, r"usage: pause_one N"),
    Row("an argument too many", f"mutitask ctl pause_all 1 {HELD}", 2, r"usage: pause_all"),
    Row(
        "a word for a number",
        f"mutitask ctl pause_one first {HELD}",
        2,
        r"N must be a whole number of 0 or more, not 'first'",
    ),
    Row(
        "a number below 0",
        f"mutitask ctl pause_one -1 {HELD}",
        2,
        r"N must be a whole number of 0 or more, not '-1'",
    ),
    Row("a capacity of 0", f"mutitask ctl reset_max_task 0 {HELD}", 2, r"N must be 1 or more"),
    Row(
        "a capacity beyond all",
        f"mutitask ctl reset_max_task 99999999999999999999 {HELD}",
        2,
        r"N must be at most 1,000,000,000",
    ),
    Row(
        "no such device",
        f"mutitask ctl pause_one 9 {HELD}",
        2,
        r"there is no Device9; there is Device0 to Device2",
    ),
    Row(
        "no such device to detect",
        f"mutitask ctl detect_one 9 {HELD}",
        2,
        r"there is no Device9; there is Device0 to Device2",
    ),
    Row(
        "no such channel",
        f"mutitask ctl pause_channel 9 {HELD}",
        2,
        r"there is no TaskChannel9; there is TaskChannel0 to TaskChannel1",
    ),
    Row("nobody to stop", f"mutitask ctl stop_one 2 {HELD}", 2, r"Device2 has no agent that could stop"),
    Row(
        "nothing to skip",
        f"mutitask ctl skip_item 0 {HELD}",
        2,
        r"TaskChannel0's feed has not stopped at an item",
    ),
    Row(
        "no such task to reload",
        f"mutitask ctl reload_one_fail_task 0 999 {HELD}",
        2,
        r"task 999 is no longer there in FailChannel0",
    ),
    Row(
        "no such task to delete",
        f"mutitask ctl delete_one_fail_task 1 7 {HELD}",
        2,
        r"task 7 is no longer there in FailChannel1",
    ),
    Row(
        "no such task to edit",
        f"mutitask ctl edit_fail_task 0 999 1 {HELD}",
        2,
        r"task 999 is no longer there in FailChannel0",
    ),
    Row(
        "no JSON",
        f"mutitask ctl edit_fail_task 0 7 {{{{oops {HELD}",
        2,
        r"not valid JSON \(.*\): text stands in double quotes, such as \"text\"",
    ),
    Row(
        "a command of the dashboard",
        f"mutitask ctl detach {HELD}",
        2,
        r"detach belongs to a dashboard: press its key there",
    ),
    Row(
        "a device with an agent is not removed",
        "mutitask ctl del_device --redis {url} --name live",
        2,
        r"Device0 has an agent; stop it first with `stop_one 0`",
    ),
    Row(
        "a device with an agent is not purged",
        "mutitask ctl purge_device 0 --redis {url} --name live",
        2,
        r"Device0 has an agent; only an offline device can be purged",
    ),
    Row(
        "no device to detect",
        "mutitask ctl detect_all --redis {url} --name bare",
        2,
        r"there is no device yet: add_device makes one, or start a worker-agent",
    ),
    Row(
        "no device to remove",
        "mutitask ctl del_device --redis {url} --name bare",
        2,
        r"there is no device left to remove",
    ),
]

CLICK_ROWS = [
    Row("no such option", "mutitask run {job} --nonsense", 2, r"No such option '?--nonsense'?"),
    Row(
        "devices below 0",
        "mutitask run {job} --devices -1",
        2,
        r"Invalid value for '--devices': -1 is not in the range",
    ),
    Row(
        "a device that is no number",
        "worker-agent {job} --device first",
        2,
        r"'first' is neither a device's number nor 'auto'",
        process=True,
    ),
    Row("a format that is none", "mutitask results export --format xml", 2, r"'xml' is not"),
]

ROWS = [*JOB_ROWS, *REDIS_ROWS, *NAMESPACE_ROWS, *CTL_ROWS, *CLICK_ROWS]


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
        r"Tasks are given as a list in the place of a generator: pass \[iter",
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
        r"current_task\(\) answers only inside a task function or a save function",
    ),
]


@dataclass(frozen=True)
class Place:
    """Where the rows are run: what stands for {url} and the like, and what may never be printed."""

    values: dict[str, str]
    secrets: tuple[str, ...]
    client: redis.Redis

    def fill(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace("{" + name + "}", value)
        return text


@pytest.fixture(scope="module")
def place(shared_server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`held`: stopped, with work in it. `live`: a server and an agent at it. `old`: of another version.
    `bare`: without a device."""
    url, directory = shared_server.url, tmp_path_factory.mktemp("bad-input")
    (directory / "notes.txt").write_text("no Python")
    dead = free_port()
    evicting = RealServer().start()
    with shared_server.client() as client, evicting.client() as other:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "weak", "on", f">{SECRET}", "~*", "+@connection")
        other.config_set("maxmemory", "100mb")
        other.config_set("maxmemory-policy", "allkeys-lru")
        with House(url, "held", iter(range(10)), iter(range(6)), devices=3) as held:
            held.agent(0)
            held.done("start_all")
            held.until(lambda s: s.channels[0].done + s.channels[0].failed == 10)
        for name in ("old", "bare"):
            with House(url, name, iter(range(5))):
                pass
        client.hset(Keys("old").meta, "protocol", "0.9")
        values = {
            "url": url,
            "port": str(shared_server.port),
            "dead": str(dead),
            "dead_url": f"redis://:{SECRET}@127.0.0.1:{dead}/0",
            "wrong_url": f"redis://:{SECRET}@127.0.0.1:{shared_server.port}/0",
            "weak_url": f"redis://weak:{SECRET}@127.0.0.1:{shared_server.port}/0",
            "evicting": evicting.url,
            "secret": SECRET,
            "text": str(directory / "notes.txt"),
            "two": str(write_job(directory, TWO_CHANNELS, "two.py")),
        }
        try:
            with House(url, "live", iter(range(100)), devices=1, capacity=3) as live:
                live.agent(0)
                live.until(lambda s: s.channels[0].waiting == 3)
                yield Place(values, (SECRET, shared_server.password, evicting.password), client)
        finally:
            client.execute_command("ACL", "DELUSER", "weak")
            evicting.remove()


def books(client: redis.Redis) -> list[Any]:
    """All that could be lost, as it lies in Redis."""
    found: list[Any] = []
    for name, number in (("held", 0), ("held", 1), ("live", 0), ("old", 0), ("bare", 0)):
        at = Keys(name).channel(number)
        found += [
            client.lrange(at.waiting, 0, -1), client.hgetall(at.failed), client.lrange(at.results, 0, -1),
            client.hgetall(at.claim_counts), client.hgetall(at.counters),
        ]  # fmt: skip
    return found


@pytest.fixture(autouse=True)
def _clean_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Job files bring their directory along; it goes again with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_bad_input_ends_with_its_sentence_and_status(
    row: Row, place: Place, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    job = write_job(tmp_path, row.job)
    words = place.fill(row.line.replace("{job}", str(job))).split()
    before = books(place.client)

    if row.process:
        program = spawn(words, cwd=tmp_path)
        status, out = program.wait(), program.stdout + program.stderr
    else:
        said = mutitask(*words[1:])
        status, out = said.status, said.stdout + said.stderr

    assert status == row.status, out
    text = " ".join(out.split())
    assert len(re.findall(place.fill(row.says), text)) == 1, out
    assert errors_page.holds(text), f"docs/errors.md has no row for: {text}"
    assert "Traceback" not in out and 'File "' not in out
    assert not any(secret in out for secret in place.secrets)
    assert books(place.client) == before


@pytest.mark.parametrize(("code", "kind", "says"), PROGRAM_ROWS, ids=[row[0] for row in PROGRAM_ROWS])
def test_a_program_is_told_what_to_pass(code: str, kind: type[Exception], says: str) -> None:
    from mutitask_tui import Server
    from worker_agent import Client, current_task

    names = {"Server": Server, "Client": Client, "current_task": current_task, "double": double}
    with pytest.raises(kind, match=says) as raised:
        eval(code, names)
    assert errors_page.holds(str(raised.value)), f"docs/errors.md has no row for: {raised.value}"


def test_a_program_without_redis_ends_with_a_sentence(place: Place, spawn: Callable[..., Program]) -> None:
    code = "from mutitask_tui import Server; Server(2, redis_url={dead_url!r}).start([iter('abc')])"
    program = spawn(["python", "-c", code.replace("{dead_url!r}", repr(place.values["dead_url"]))])
    assert program.wait() == 3, program
    assert re.fullmatch("mutitask: " + place.fill(UNREACHABLE) + "\n", program.stderr), program
    assert program.stdout == "" and SECRET not in program.stderr


def test_debug_shows_the_traceback(place: Place, spawn: Callable[..., Program]) -> None:
    program = spawn(["mutitask", "--debug", "status", "--redis", place.values["dead_url"]])
    assert program.wait() == 3
    assert "Traceback" in program.stderr and "RedisUnavailable" in program.stderr
    assert SECRET not in program.stderr


# What cannot travel, what is not ours


def unpackable() -> Iterator[Any]:
    yield 0
    yield 1
    yield lambda: None
    yield 3


LAMBDA = r"item 2 is a value of type function, which msgpack cannot carry"


def test_a_task_that_cannot_travel_stops_the_feed_before_it_until_it_is_passed_over(redis_url: str) -> None:
    with House(redis_url, "halting", unpackable(), iter("abc")) as house:
        house.agent(0, task_function=lambda task: [task])
        house.done("start_all")
        stopped = house.until(lambda s: s.channels[0].halted and s.channels[0].done == 2)
        assert re.search(LAMBDA, stopped.channels[0].halted)
        assert any(re.search("TaskChannel0: the feed stopped: " + LAMBDA, e.text) for e in stopped.events)
        house.until(lambda s: s.channels[1].exhausted)  # The other channel goes on.

        skipped = house.done("skip_item", 0, "--yes")

        assert skipped["item"] == 2
        after = house.until(lambda s: s.channels[0].exhausted and s.channels[0].done == 3)
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


def test_a_mended_job_meets_the_item_again(
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

    mended = spawn([*line, "--resume"])
    assert mended.wait() == 0, mended
    lines = mutitask("results", "export", "--redis", redis_url).lines
    assert sorted(line["number"] for line in lines) == [0, 1, 2, 3]


def test_what_was_to_be_passed_over_is_passed_over_by_the_next_server(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    line = ["mutitask", "run", write_job(tmp_path, HALTING_JOB), "--redis", redis_url, "--headless",
            "--until-done", "--autostart", "--local-agents", "1"]  # fmt: skip
    assert spawn(line, env={"BROKEN": "1"}).wait() == 1
    assert mutitask("ctl", "skip_item", "0", "--redis", redis_url).status == 0
    again = spawn([*line, "--resume"], env={"BROKEN": "1"})
    assert again.wait() == 0, again
    assert "3 tasks allotted: 3 done" in again.stderr


def test_a_task_of_more_than_64_mib_stops_the_feed(redis_url: str) -> None:
    with House(redis_url, "large", iter(["small", b"x" * (wire.MAX_BYTES + 1), "small"])) as house:
        stopped = house.until(lambda s: s.channels[0].halted)
        assert re.fullmatch(r"item 1 is a bytes of 67,1\d\d,\d\d\d bytes once packed; the most is 64 MiB.*",
                            stopped.channels[0].halted)  # fmt: skip
        assert stopped.channels[0].allotted == 1
        assert house.status()["channels"][0]["halted"] == stopped.channels[0].halted


def test_a_generator_that_raises_stops_the_feed(redis_url: str) -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise OSError("the list is gone")

    with House(redis_url, "raising", broken()) as house:
        stopped = house.until(lambda s: s.channels[0].halted)
        assert stopped.channels[0].halted == (
            "item 1: the generator raised OSError: the list is gone; fix the job, then continue with --resume"
        )
        said = house.ctl("skip_item", 0, "--yes")
        assert said.status == 2 or house.channel().halted  # Nothing lies behind a broken generator.


def test_a_strangers_item_goes_to_the_fail_channel_and_the_rest_goes_on(
    redis_url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with House(redis_url, "strange", iter(range(5)), capacity=10) as house:
        house.until(lambda s: s.channels[0].waiting == 5)
        at = Keys("strange").channel(0)
        client.lpush(at.waiting, b"\xff garbage \x1b[31m", b"")
        house.agent(0)
        house.done("start_all")
        snapshot = house.until(lambda s: s.channels[0].done == 5 and s.channels[0].failed == 2)

        channel = snapshot.channels[0]
        assert channel.foreign == 2 and channel.allotted == 7 and channel.balanced
        exported = Path(house.done("export_fail_tasks")["path"])
        lines = [json.loads(line) for line in exported.read_text().splitlines()]
        assert {line["stage"] for line in lines} == {"foreign"}
        foreign = house.failed_ids()[0]
        said = house.ctl("reload_one_fail_task", 0, foreign)
        assert said.status == 2
        assert f"task {foreign} is foreign: it has no header to run it by; edit or delete it" in said.stderr
        assert house.done("delete_one_fail_task", 0, foreign, "--yes")["deleted"] == 1
        assert house.channel().balanced


def test_a_generator_that_became_shorter_is_no_success(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    with House(redis_url, "shorter", iter(range(1000)), capacity=10) as house:
        house.agent(0, task_function=lambda task: [task])
        house.done("start_all")
        house.until(lambda s: s.channels[0].done >= 10)
        house.done("pause_allot")
        house.until(lambda s: s.channels[0].open == 0)
        house.done("start_allot")
    program = spawn(
        ["mutitask", "run", write_job(tmp_path, GOOD), "--resume", "--headless", "--until-done",
         "--redis", redis_url, "--name", "shorter", "--local-agents", "1", "--autostart"],
    )  # fmt: skip
    assert program.wait() == 1, program
    says = (
        r"TaskChannel0: the generator ended after 5 items, and \d+ were allotted: not the same generator; "
        r"resume with the job that started the run, or pass --resume-anyway to run the remaining tasks, or --fresh"
    )
    assert re.search(says, program.stderr), program


def test_a_port_that_others_hold_is_left_to_them(
    spawn: Callable[..., Program], tmp_path: Path, state_dir: Path
) -> None:
    """The embedded Valkey takes another port; a program that means `localhost:6379` is told who is there."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 6379))
        except OSError:
            pytest.skip("another process holds 6379")
        taken.listen()
        job = write_job(tmp_path, GOOD)
        program = spawn(
            ["mutitask", "run", job, "--headless", "--until-done", "--autostart", "--local-agents", "1"]
        )
        assert program.wait() == 0, program
        assert "5 done, 0 failed" in program.stderr
        assert "127.0.0.1:6379" not in program.stderr


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
