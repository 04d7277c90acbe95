"""A password comes from the URL, the environment or a file. No argument and no output ever shows it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pexpect
import pytest
import redis
from rich.console import Console
from rich.traceback import Traceback

from mutitask_tui.server.reader import Reader
from tests.cli.tools import mutitask, no_agents_left
from tests.support.programs import Program
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import build_url, read_password_file, resolve
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import JobError, RedisRefused

__all__ = ["no_agents_left"]

SECRET = "s3cr3t-[x]/@:"
NEEDLES = (SECRET.encode(), quote(SECRET, safe="").encode(), b"s3cr3t")
NAME = "passwords"
JOB = """
def tasks():
    yield from range(40)
    yield object()
def task_function(task):
    if task % 10 == 7:
        raise ValueError(f"{task} ends in seven")
    return task
"""


@pytest.fixture
def place(own_server: RealServer) -> RealServer:
    with own_server.client() as admin:
        admin.config_set("requirepass", SECRET)
    return own_server


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "redis.password"
    path.touch(0o600)
    path.write_text(SECRET + "\n")
    return path


def everything_in(client: redis.Redis) -> bytes:
    """Return all keys with their values, uncompressed."""
    found: list[Any] = []
    for key in client.keys("*"):
        kind = client.type(key)
        found += [
            key,
            {
                b"hash": client.hgetall, b"list": lambda k: client.lrange(k, 0, -1), b"string": client.get,
                b"zset": lambda k: client.zrange(k, 0, -1), b"stream": client.xrange,
            }[kind](key),
        ]  # fmt: skip
    return repr(found).encode()


def arguments_of_what_runs(mark: Path) -> list[bytes]:
    """Return the arguments of every process whose environment or arguments contain `mark`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes()
            if str(mark).encode() in arguments + (entry / "environ").read_bytes():
                found.append(arguments)
    return found


def assert_clean(text: bytes, what: object) -> None:
    for needle in NEEDLES:
        at = text.find(needle)
        assert at < 0, (what, text[max(0, at - 200) : at + 60])


def test_a_password_is_shown_nowhere(
    place: RealServer,
    password_file: Path,
    state_dir: Path,
    tmp_path: Path,
    spawn: Callable[..., Program],
    pty_run: Callable[..., pexpect.spawn[str]],
) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    bare = f"redis://127.0.0.1:{place.port}/0"
    whole = build_url("127.0.0.1", place.port, password=SECRET)
    by_file = ["--redis", bare, "--password-file", password_file, "--name", NAME]
    by_variable = {"MUTITASK_REDIS_URL": bare, "MUTITASK_REDIS_PASSWORD": SECRET}
    by_url = {"MUTITASK_REDIS_URL": whole}
    client = connect(whole)

    server = spawn(["mutitask", "run", job, "--headless", "--local-agents", "1", "--autostart", *by_file])
    agents = [
        spawn(["worker-agent", "--debug", job, "--device", "1", *by_file]),
        spawn(["worker-agent", "--debug", job, "--device", "2", "--name", NAME], by_variable),
    ]
    reader = Reader(whole, NAME)

    def over() -> bool:
        with contextlib.suppress(Exception):
            snapshot = reader.snapshot()
            return (
                snapshot.channels[0].done == 36 and sum(d.state != "offline" for d in snapshot.devices) == 3
            )
        return False

    wait_until(over, 30)
    screen = pty_run(["mutitask", "attach", "--name", NAME], by_variable)
    screen.logfile_read = io.StringIO()
    screen.expect("TaskChannel0")
    running = arguments_of_what_runs(tmp_path)
    assert len(running) >= 5
    os.kill(screen.pid, signal.SIGTERM)
    screen.expect(pexpect.EOF)

    wrong = {**by_variable, "MUTITASK_REDIS_PASSWORD": f"{SECRET}2"}
    nobody = {**by_variable, "MUTITASK_REDIS_URL": f"redis://s3cr3t-user@127.0.0.1:{place.port}/0"}
    others = [
        (spawn(["mutitask", "--debug", *line.split(), *where], env), status)
        for line, where, env, status in (
            ("status", by_file, {}, 0), ("status --json --name", [NAME], by_url, 0), ("config", [], by_url, 0),
            ("results export", by_file, {}, 0), ("ctl pause_all", by_file, {}, 0),
            ("ctl detect_all --name", [NAME], by_variable, 0), ("status --name", [NAME], wrong, 3),
            ("ctl start_all --name", [NAME], wrong, 3), ("status --name", [NAME], nobody, 3),
            ("status --name nowhere --redis", [bare, "--password-file", password_file], {}, 1),
            ("status --redis", [bare, "--password-file", job], {}, 2),
        )
    ]  # fmt: skip
    others.append((spawn(["worker-agent", "--debug", job, "--name", NAME], wrong), 3))
    for program, status in others:
        assert program.wait(30) == status, program
    assert mutitask("ctl", "exit", "--yes", "--redis", whole, "--name", NAME).status == 0
    for program in (server, *agents):
        assert program.wait(30) == 0, program

    assert "wrong" not in server.stderr and "Traceback" in others[6][0].stderr
    for program in (server, *agents, *(program for program, _ in others)):
        assert_clean((program.stdout + program.stderr).encode(), program.args)
    assert_clean(screen.logfile_read.getvalue().encode(), "the screen")
    for arguments in running:
        assert_clean(arguments, arguments)
    assert_clean(everything_in(client), "Redis")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != 0o600 or path != password_file:
            assert_clean(path.read_bytes(), path)


def test_a_crash_report_that_shows_locals_does_not_show_the_password(place: RealServer) -> None:
    """Textual shows the local variables of each frame, and the frames of redis-py hold the password."""
    url = build_url("127.0.0.1", place.port, username="s3cr3t", password=f"{SECRET}2")
    reader = Reader(url, NAME)
    broker = Broker(connect(url), NAME, Actor.operator(), address=reader.address)
    del url
    for call in (reader.snapshot, reader.channels, broker.register_operator, lambda: broker.query("PING")):
        with pytest.raises(RedisRefused) as refused:
            call()
        report = Traceback.from_exception(
            refused.type, refused.value, refused.value.__traceback__, show_locals=True, locals_max_string=None
        )
        console = Console(file=io.StringIO(), width=300)
        console.print(report)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "refuses the password" in shown
        assert_clean(shown.encode(), "the report")


# Sources of the password


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.delenv("MUTITASK_REDIS_PASSWORD", raising=False)
    yield monkeypatch


def logs_in_with(url: str) -> tuple[str | None, str | None]:
    with connect(url) as client:
        given = client.connection_pool.connection_kwargs
        return given.get("username") or None, given.get("password")


@pytest.mark.parametrize(
    ("url", "file", "variable", "expected"),
    [
        ("redis://h:1/0", SECRET, None, (None, SECRET)),
        ("redis://h:1/0", None, SECRET, (None, SECRET)),
        ("redis://u@h:1/0", SECRET, None, ("u", SECRET)),
        ("redis://u@h:1/0", None, SECRET, ("u", SECRET)),
        ("redis://u:own@h:1/0", None, SECRET, ("u", "own")),
        ("redis://u:own@h:1/0", SECRET, "variable", ("u", SECRET)),
        ("redis://:own@h:1/0", None, SECRET, (None, "own")),
        ("redis://h:1/0", SECRET, "variable", (None, SECRET)),
        ("redis://h", SECRET, None, (None, SECRET)),
        ("redis://h?db=3", SECRET, None, (None, SECRET)),
        ("redis://[::1]:7?db=3", SECRET, None, (None, SECRET)),
        ("rediss://u@h:1/2?ssl_ca_certs=/x", None, SECRET, ("u", SECRET)),
        ("unix:///run/redis.sock?db=1", SECRET, None, (None, SECRET)),
        ("unix://u@/run/redis.sock", None, SECRET, ("u", SECRET)),
        ("redis://h?password=own", None, SECRET, (None, "own")),
        ("redis://h:1/0", None, None, (None, None)),
    ],
)
def test_the_file_has_priority_over_the_url_and_the_url_over_the_environment(
    unset: pytest.MonkeyPatch, url: str, file: str | None, variable: str | None, expected: tuple[str, str]
) -> None:
    if variable:
        unset.setenv("MUTITASK_REDIS_PASSWORD", variable)
    resolved, named = resolve(url, "n", password=file)
    assert named and logs_in_with(resolved) == expected
    with connect(url) as before, connect(resolved) as after:
        place = [{**c.connection_pool.connection_kwargs} for c in (before, after)]
    for options in place:
        for key in ("username", "password", "retry", "maint_notifications_config"):
            options.pop(key, None)
        options = {key: value for key, value in options.items() if isinstance(value, str | int)}
    assert {k: v for k, v in place[0].items() if isinstance(v, str | int)} == {
        k: v for k, v in place[1].items() if isinstance(v, str | int)
    }


def test_without_an_address_the_environments_password_is_used_for_the_default_address(
    unset: pytest.MonkeyPatch,
) -> None:
    unset.setenv("MUTITASK_REDIS_PASSWORD", SECRET)
    url, named = resolve(None, "n")
    assert (named, logs_in_with(url)) == (False, (None, SECRET))
    url, named = resolve(None, "n", host="other")
    assert (named, logs_in_with(url)) == (True, (None, SECRET))


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"pw\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw", "pw"),
        (b" p w \n", " p w "),
        (b"a\nb\n", "a\nb"),
        ("ä".encode(), "ä"),
    ],
)
def test_only_a_newline_at_the_end_of_the_file_is_dropped(
    tmp_path: Path, content: bytes, password: str
) -> None:
    file = tmp_path / "pw"
    file.touch(0o600)
    file.write_bytes(content)
    assert read_password_file(file) == password


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "pw"
    file.write_text(SECRET)
    file.chmod(mode)
    result = mutitask("status", "--password-file", file)
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr == (
        f"mutitask: {file} can be read by other users and is not trusted: run `chmod 600 {file}`.\n"
    )


def test_a_file_without_a_password_is_refused_with_a_message(
    tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    for path, content in ((empty, b"\n"), (binary, b"\xff\xfe")):
        path.touch(0o600)
        path.write_bytes(content)
    job = tmp_path / "job.py"
    job.write_text(JOB)
    for path, why in (
        (
            tmp_path / "away",
            r"cannot be read (No such file or directory): name a file that holds the password.",
        ),
        (tmp_path, "cannot be read (Is a directory): name a file that holds the password."),
        (binary, "cannot be read (it is not UTF-8): name a file that holds the password."),
        (empty, "is empty: put the password into it."),
    ):
        for words in (["status"], ["run", job], ["results", "export"], ["ctl", "pause_all"], ["attach"]):
            result = mutitask(*words, "--password-file", path)
            assert (result.status, result.stderr) == (2, f"mutitask: {path} {why}\n")
        with pytest.raises(JobError):
            read_password_file(path)
    agent = spawn(["worker-agent", job, "--password-file", empty])
    assert agent.wait(20) == 2
    assert agent.stderr == f"worker-agent: {empty} is empty: put the password into it.\n"
