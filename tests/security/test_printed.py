"""Send a hostile text through every place that prints or logs: no escape, forged line or endless line comes out."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mutitask_tui.server.core import ServerCore
from tests.cli.tools import Stack, mutitask, no_agents_left
from tests.support.programs import ROOT, Program
from tests.support.waiting import wait_until
from worker_agent.console import lines
from worker_agent.protocol import printable as filters
from worker_agent.protocol import wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.identity import Identity
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.printable import LINE, printable, printable_json

__all__ = ["no_agents_left"]

NAME = "printed"
KEYS = Keys(NAME)
SHORT = "\x1b]0;owned\x07\r\nFAKE LINE\r\x9b31m\x85\u202egnp\u2028\u2066\u200b\x7f\x00\x08\ud800\U000e0041"
HOSTILE = SHORT + "x" * 50_000
IN_SOURCE = repr(HOSTILE).replace("\\ud800", "")
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
SPARE = 100
"""The most characters around a text in its line: the time and the name of the program."""


def expect_fit(text: str, *, longest: int = LINE + SPARE) -> None:
    """Expect no hidden characters except line ends, no forged line, and no line longer than `longest`."""
    assert text, "nothing was printed"
    assert not [c for c in text if c != "\n" and unicodedata.category(c) in HIDDEN]
    for line in text.split("\n"):
        assert not line.startswith("FAKE LINE")
        assert len(line) <= longest
    text.encode()


def raw(program: Program) -> str:
    """Return the program's output, byte for byte."""
    return (program.stdout_path.read_bytes() + program.stderr_path.read_bytes()).decode()


@pytest.fixture
def stack(redis_url: str, client: redis.Redis) -> Iterator[Stack]:
    """A namespace in which every text from outside MutiTask is hostile."""

    def tasks() -> Iterator[object]:
        yield 1
        yield SHORT.replace("\ud800", "")
        yield 2
        raise ValueError(HOSTILE)

    def fails(task: object) -> object:
        if task == 2:
            raise ValueError(HOSTILE)
        return [task, SHORT.replace("\ud800", "")]

    with Stack(redis_url, NAME, tasks(), devices=3, autostart=True) as stack:
        stack.agent(0, task_function=fails)
        stack.until(lambda s: (s.channels[0].halted and s.channels[0].open == 0) or stack.core.ended.is_set())
        assert not stack.core.ended.is_set(), repr(stack.core.failure)
        stamp = client.hget(KEYS.devices, "0")[:13]
        text = HOSTILE.replace("\ud800", "")
        report = {
            "state": text,
            "host": text,
            "tasks": [
                {
                    "text": text,
                    "seconds": 9_999.0,
                    "id": text,
                    "channel": 0,
                    "done": 1,
                    "total": 3,
                    "note": text,
                    "line": text,
                },
            ],
            "running": 1,
            "version": text,
            "python": text,
        }
        client.hset(KEYS.devices, "1", stamp + wire.pack(report))
        client.hset(KEYS.agents, "1", "a-stranger")
        client.zadd(KEYS.leases, {"a-stranger": 9e15})
        client.rpush(KEYS.events, b"1700000000000" + wire.pack([text, text, text]))
        client.rpush(KEYS.device_log(0), text.encode())
        client.rpush(KEYS.device_lines(0), text.encode(), wire.pack([1, 0, text, text]))
        client.rpush(KEYS.channel(0).waiting, text.encode())
        yield stack


def at(stack: Stack) -> list[str]:
    return ["--redis", stack.url, "--name", NAME]


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["ctl", "detect_all"],
        ["ctl", "detect_one", "1"],
        ["ctl", "purge_device", "1"],
        ["ctl", "pause_all"],
    ],
    ids=" ".join,
)
def test_commands_print_fit_lines(stack: Stack, words: list[str]) -> None:
    result = mutitask(*words, *at(stack))
    expect_fit(result.stdout + result.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--json"],
        ["ctl", "detect_all", "--json"],
        ["results", "export"],
        ["ctl", "export_fail_tasks", "-"],
    ],
    ids=" ".join,
)
def test_json_has_the_same_values_and_no_hidden_characters(stack: Stack, words: list[str]) -> None:
    result = mutitask(*words, *at(stack))
    assert result.status == 0
    expect_fit(result.stdout, longest=sys.maxsize)
    values = [json.loads(line) for line in result.stdout.splitlines()]
    if words[0] == "results":
        assert values[1]["result"][1] == SHORT.replace("\ud800", "")


def test_exported_files_have_no_hidden_characters(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stack.done("export_fail_tasks")
    [file] = tmp_path.glob("*.jsonl")
    expect_fit(file.read_text(), longest=sys.maxsize)


JOB = "def tasks():\n    yield 1\ndef task_function(task):\n    return task\n"
RAISES = f"def tasks():\n    yield 1\n    raise ValueError({IN_SOURCE})\ndef task_function(task):\n    return task\n"


def job_of(tmp_path: Path, text: str, name: str = "job.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_headless_run_prints_fit_lines(
    redis_url: str, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    program = spawn(
        ["mutitask", "run", job_of(tmp_path, RAISES), "--headless", "--until-done", "--autostart",
         "--local-agents", "1", "--redis", redis_url, "--name", NAME]
    )  # fmt: skip
    assert program.wait(30) == 1
    assert "the generator raised ValueError" in program.stderr
    expect_fit(raw(program))


SPEAKS = f"""
import logging, sys
from worker_agent import current_task
def tasks():
    yield 1
def task_function(task):
    current_task().progress(1, 3, {IN_SOURCE})
    print({IN_SOURCE})
    print({IN_SOURCE}, file=sys.stderr)
    logging.getLogger({IN_SOURCE}).warning({IN_SOURCE})
    current_task().log.info({IN_SOURCE})
    raise ValueError("it fails")
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_what_a_task_says_is_fit(
    kind: str, redis_url: str, state_dir: Path, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    program = spawn(
        ["mutitask", "run", job_of(tmp_path, SPEAKS), "--headless", "--until-done", "--autostart", "--failed-ok",
         "--retries", "0", "--local-agents", "1", "--kind", kind, "--redis", redis_url, "--name", NAME]
    )  # fmt: skip
    assert program.wait(30) == 0, program
    expect_fit(raw(program))
    log = (state_dir / NAME / "agents" / "device0.log").read_text()
    assert log.count("Device0 ch0 #0: ") >= 4
    expect_fit(log)
    exported = mutitask("ctl", "export_fail_tasks", "-", "--redis", redis_url, "--name", NAME)
    expect_fit(exported.stdout, longest=sys.maxsize)
    assert len(json.loads(exported.stdout)["lines"]) >= 4


@pytest.mark.parametrize("line", ["mutitask run {} --headless", "mutitask --debug run {} --headless", "worker-agent {}",
                                  "worker-agent {} --debug", "worker-agent {} --kind process"])  # fmt: skip
@pytest.mark.parametrize("text", [f"raise ImportError({IN_SOURCE})", f"raise SystemExit({IN_SOURCE})", None])
def test_a_jobs_path_and_its_error_are_fit(
    tmp_path: Path, spawn: Callable[..., Program], line: str, text: str | None
) -> None:
    name = SHORT.replace("\ud800", "").replace("\x00", "") + ".py"
    job = job_of(tmp_path, text, name) if text else tmp_path / name
    program = spawn([str(job) if word == "{}" else word for word in line.split()])
    assert program.wait(20) == 2
    expect_fit(raw(program))


class Lies:
    """A false Redis that answers every call with one hostile error."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=self._listening.accept()[:1], daemon=True).start()

    def _answer(self, one: socket.socket) -> None:
        words = re.sub("[\r\n\ud800]", " ", HOSTILE).encode()
        with one, contextlib.suppress(OSError):
            while one.recv(65_536):
                one.sendall(b"-ERR " + words + b"\r\n")

    def close(self) -> None:
        self._listening.close()


LINES = ["status", "ctl pause_all", "results export", "run {job} --headless", "serve --port 0"]


@pytest.mark.parametrize("line", [f"mutitask {line}" for line in LINES] + ["worker-agent {job}"])
def test_errors_of_redis_are_fit(tmp_path: Path, spawn: Callable[..., Program], line: str) -> None:
    lies, job = Lies(), job_of(tmp_path, JOB)
    program = spawn([str(job) if word == "{job}" else word for word in line.split()] + ["--redis", lies.url])
    assert program.wait(20) == 3
    expect_fit(raw(program))
    lies.close()


def test_another_agents_host_name_is_fit(
    redis_url: str, client: redis.Redis, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    with Stack(redis_url, NAME, iter(range(3)), devices=1):
        other = Broker(connect(redis_url), NAME, Actor.agent(), address="here")
        other.join(0, None, Identity(HOSTILE.replace("\ud800", ""), 5, "elsewhere", 7))
        program = spawn(
            ["worker-agent", job_of(tmp_path, JOB), "--device", "0", "--redis", redis_url, "--name", NAME]
        )
        wait_until(lambda: "is held by an agent" in program.stderr, 20)
        expect_fit(raw(program))
        program.kill()


def test_another_servers_host_name_is_fit(
    redis_url: str, tmp_path: Path, spawn: Callable[..., Program]
) -> None:
    core = ServerCore(redis_url, NAME, RunPlan(channels=1, devices=0, capacity=5), [iter([])])
    core._identity = Identity(HOSTILE.replace("\ud800", ""), 5, "elsewhere", 7)
    core.open()
    core.start()
    result = mutitask(
        "run", job_of(tmp_path, JOB), "--headless", "--resume", "--redis", redis_url, "--name", NAME
    )
    core.stop()
    assert result.status == 4
    expect_fit(result.stderr)


def test_settings_and_typed_words_are_fit(tmp_path: Path, spawn: Callable[..., Program]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('theme = "\\u001b]0;owned\\u0007\\u009b31m\\u202e"\n')
    name = SHORT.replace("\ud800", "").replace("\x00", "")
    programs = [
        spawn(["mutitask", "config"], {"MUTITASK_CONFIG": str(config)}),
        spawn(["mutitask", "config"], {"MUTITASK_CONFIG": str(tmp_path / name)}),
        spawn(["mutitask", name]), spawn(["mutitask", "ctl", name]), spawn(["mutitask", "status", f"--{name}"]),
        spawn(["mutitask", "status", "--name", name]), spawn(["mutitask", "status", "--redis", f"redis://{name}"]),
        spawn(["mutitask", "results", "export", "--channel", name]),
        spawn(["worker-agent", "job.py", "--device", name]),
        spawn(["mutitask", "status", "--password-file", name]),
    ]  # fmt: skip
    for program in programs:
        program.wait(20)
        expect_fit(raw(program))


def test_a_program_that_serves_prints_fit_lines(tmp_path: Path, spawn: Callable[..., Program]) -> None:
    lies = Lies()
    program = job_of(
        tmp_path,
        f"from mutitask_tui import Server\nServer(1, 5, redis_url={lies.url!r}).start([iter([1])])\n",
        "program.py",
    )
    ran = spawn([sys.executable, program])
    assert ran.wait(20) != 0
    expect_fit(raw(ran))
    lies.close()


def test_our_log_is_fit_with_any_handlers_of_a_program(caplog: pytest.LogCaptureFixture) -> None:
    from worker_agent.console.log import LOG

    with caplog.at_level(logging.INFO):
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            LOG.error("it failed: %s", HOSTILE, exc_info=True)
    for record in caplog.records:
        expect_fit(record.getMessage())
        assert record.exc_info is None


def test_lines_for_a_closed_reader_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", closefd=True) as gone:
        monkeypatch.setattr(lines.streams, "stderr", lambda: gone)
        lines.print_stderr("x")
        with contextlib.suppress(OSError):
            gone.close()


# The filter itself


def test_each_hidden_character_is_dropped_or_escaped() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    hidden = [c for c in every if unicodedata.category(c) in HIDDEN]
    assert len(hidden) > 100_000
    assert (
        printable(
            "".join(c for c in hidden if c not in "\n\t\ud800" and unicodedata.category(c) != "Cs"), 10**7
        )
        == ""
    )
    beyond_c0 = "".join(c for c in hidden if c >= "\x7f")
    assert filters._HIDDEN.sub("", beyond_c0) == ""
    text = json.dumps(beyond_c0.encode("utf-8", "ignore").decode(), ensure_ascii=False)
    expect_fit(printable_json(text), longest=sys.maxsize)
    assert json.loads(printable_json(text)) == json.loads(text)


def test_text_that_the_short_check_passes_hides_nothing() -> None:
    for code in range(sys.maxunicode + 1):
        assert not (filters._hides_nothing(chr(code)) and filters._HIDDEN.match(chr(code))), hex(code)


def test_a_line_has_a_maximum_length() -> None:
    assert len(printable(HOSTILE)) <= LINE and printable("a" * 10_000).endswith("…")


SINKS = re.compile(
    r"print|click\.(s?echo|confirm|prompt)|sys\.std(out|err)\.write|logging\.(basicConfig|StreamHandler)"
)
WALKED = {
    "worker_agent/console/lines.py",
    "worker_agent/console/log.py",
    "mutitask_tui/web/web_server.py",
    "mutitask_tui/cli/ctl.py",
    "mutitask_tui/launch/open_namespace.py",
}
"""The modules that write output themselves. The tests above cover them."""


def test_nothing_else_prints() -> None:
    found = set()
    for package in ("mutitask_tui", "worker_agent"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and SINKS.fullmatch(ast.unparse(node.func)):
                    found.add(str(path.relative_to(ROOT)))
    assert found == WALKED
