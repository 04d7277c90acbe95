"""`--log-format json`: one object a line, from server and agents; `--log-level`: only lines from that level on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.tools import write_job
from tests.support.programs import Program
from worker_agent.console import log_format
from worker_agent.console.log_format import JsonFormatter, about, json_line

Spawn = Callable[..., Program]

JOB = """
import time
def tasks():
    yield from [1, "hang", 2]
def task_function(task):
    if task == "hang":
        time.sleep(60)
    print("hello from", task)
    return task
"""


def objects(text: str) -> list[dict[str, Any]]:
    """Return the lines as objects. Each must be one, with the fields that every line has."""
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        assert {"ts", "level", "message"} <= each.keys()
        assert each["ts"].endswith("Z") and datetime.fromisoformat(each["ts"])
        assert each["level"] in ("debug", "info", "warning", "error")
    return found


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_server_and_local_agents_print_one_object_a_line(
    redis_url: str, state_dir: Path, tmp_path: Path, spawn: Spawn, kind: str
) -> None:
    done = spawn(
        ["mutitask", "run", write_job(tmp_path, JOB), "--redis", redis_url, "--headless", "--local-agents", "1",
         "--autostart", "--until-done", "--retries", "0", "--timeout", "0.3", "--kind", kind, "--log-format", "json"],
    )  # fmt: skip
    assert done.wait(60) == 7, done

    lines = objects(done.stderr)
    assert any("3 tasks allotted: 2 done, 1 failed" in line["message"] for line in lines)
    assert {line["run"] for line in lines} == {lines[0]["run"]} and lines[0]["run"]
    (log,) = (state_dir / "default" / "agents").glob("*.log")
    of_agent = objects(log.read_text())
    (timed_out,) = [line for line in of_agent if "ran longer than 0.3 s" in line["message"]]
    assert timed_out["level"] == "warning"
    assert (timed_out["device"], timed_out["channel"], timed_out["task"]) == (0, 0, 1)
    assert timed_out["run"] == lines[0]["run"]
    (said,) = [line for line in of_agent if line["message"] == "hello from 2"]
    assert (said["level"], said["device"], said["channel"], said["task"]) == ("info", 0, 0, 2)


def test_errors_are_objects_too(tmp_path: Path, spawn: Spawn) -> None:
    job = write_job(tmp_path, "def tasks(:\n")
    for program in (["mutitask", "run"], ["worker-agent"], ["worker-agent", "--kind", "process"]):
        refused = spawn([*program, job, "--log-format", "json"])
        assert refused.wait(30) == 2, refused
        (line,) = objects(refused.stderr)
        assert line["level"] == "error" and "job.py" in line["message"]


def test_only_lines_from_the_level_on_are_printed(redis_url: str, tmp_path: Path, spawn: Spawn) -> None:
    job = write_job(tmp_path, JOB.replace('"hang", ', ""))
    options = ["--redis", redis_url, "--headless", "--local-agents", "1", "--autostart", "--until-done"]
    done = spawn(["mutitask", "run", job, *options, "--log-level", "warning"])
    assert (done.wait(60), done.stderr) == (0, "")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_an_agents_level_holds_for_its_log_and_not_for_the_devices_log(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(log_format.LEVEL_VARIABLE, level)
    assert log_format.least_level() == getattr(logging, level.upper())


def test_a_level_that_is_none_means_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log_format.LEVEL_VARIABLE, "loud")
    assert log_format.least_level() == logging.INFO


def test_hostile_text_stays_one_line_of_ascii_safe_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_format, "CONTEXT", {"device": 3})
    line = json_line("info", 'a"b\n\x1b[31m\u202e\x00end', at=0.0)
    assert "\n" not in line and "\x1b" not in line and "\u202e" not in line
    parsed = json.loads(line)
    assert parsed == {
        "ts": "1970-01-01T00:00:00.000Z", "level": "info", "device": 3, "message": 'a"b⏎[31mend',
    }  # fmt: skip


def test_a_line_about_a_task_names_it() -> None:
    item = b"M1" + b"run12345" + b"%012d" % 77 + b"000m"
    record = logging.LogRecord("worker_agent", logging.WARNING, "", 0, "about %s", ("it",), None)
    for name, value in about(item, 2).items():
        setattr(record, name, value)
    parsed = json.loads(JsonFormatter().format(record))
    assert {name: parsed[name] for name in ("channel", "task", "run", "message")} == {
        "channel": 2, "task": 77, "run": "run12345", "message": "about it",
    }  # fmt: skip
