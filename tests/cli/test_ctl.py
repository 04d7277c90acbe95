"""`mutitask ctl`: every command of the registry, against a live headless server and its agents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mutitask_tui.server.commands.registry import COMMANDS, parse_line
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from tests.cli.tools import Stack, double, mutitask, write_job
from tests.support.programs import Program
from tests.support.waiting import wait_until

JOB = """
def numbers():
    yield from range(1_000_000)
def words():
    yield "first"
    yield lambda: "not a task"
    yield "third"
tasks = [numbers, words]
def task_function(task):
    if isinstance(task, int) and task % 10 == 7:
        raise ValueError(f"{task} ends in seven")
    return [task]
"""


def test_every_command_of_the_registry(
    redis_url: str, spawn: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = spawn(
        ["mutitask", "run", write_job(tmp_path, JOB), "--redis", redis_url, "--headless", "--devices", "3",
         "--local-agents", "2", "--capacity", "20", "--retries", "0"],
    )  # fmt: skip
    carried_out: set[str] = set()
    reader = Reader(redis_url, "default")

    def ctl(name: str, *args: object) -> Any:
        data = mutitask("ctl", name, *args, "--json", "--yes", "--redis", redis_url).json
        assert {"command", "ok", "text"} <= data.keys() and data["ok"] is True
        carried_out.add(data["command"])
        return data

    def until(holds: Callable[[Snapshot], object]) -> Snapshot:
        def look() -> Snapshot | None:
            snapshot = reader.snapshot()
            return snapshot if holds(snapshot) else None

        return wait_until(look, 20, every=0.02, what=f"a snapshot that holds; {server}")  # type: ignore[return-value]

    wait_until(lambda: "run " in server.stderr, 20)
    until(lambda s: s.devices[0].actor and s.devices[1].actor and s.channels[1].halted)
    until(lambda s: (s.channels[0].waiting, s.channels[1].waiting) == (20, 1))

    # Devices
    found = ctl("detect_all")["devices"]
    assert {device: entry["state"] for device, entry in found.items()} == {
        "0": "paused", "1": "paused", "2": "offline",
    }  # fmt: skip
    assert 0 < found["0"]["ms"] < 1000 and found["2"]["ms"] is None
    one = ctl("detect_one", 1)
    assert one["text"].startswith("Device1 paused, ") and one["text"].endswith(" ms")
    assert ctl("start_one", 0)["wished"] == "running"
    until(lambda s: s.devices[0].state == "running" and s.channels[0].done > 20)
    assert ctl("pause_one", 0) == {
        "command": "pause_one", "ok": True, "text": "asked Device0 to pause", "devices": [0], "wished": "paused",
    }  # fmt: skip
    until(lambda s: s.devices[0].state == "paused" and s.channels[0].claimed == 0)
    assert ctl("start_all")["devices"] == [0, 1, 2]
    until(lambda s: [d.state for d in s.devices] == ["running", "running", "offline"])
    ctl("pause_all")
    until(lambda s: s.devices[0].state == s.devices[1].state == "paused" and s.channels[0].claimed == 0)

    assert ctl("assign", 0, "1,0") == {
        "command": "assign", "ok": True, "text": "asked Device0 to serve TaskChannel1, TaskChannel0", "devices": [0],
        "channels": [1, 0],
    }  # fmt: skip
    until(lambda s: s.devices[0].channels == (1, 0))
    assert ctl("assign", 0, "0")["channels"] == [0]
    until(lambda s: s.devices[0].channels == (0,))
    assert ctl("assign", 0, "all")["channels"] == [0, 1]
    until(lambda s: s.devices[0].channels is None)

    # Feeding
    assert ctl("pause_allot")["allotting"] is False
    ctl("start_one", 0)
    dry = until(lambda s: s.channels[0].open == 0)
    assert dry.server is not None and dry.server.allotting is False
    assert not dry.channels[0].exhausted
    assert ctl("start_allot")["allotting"] is True
    until(lambda s: s.channels[0].done > dry.channels[0].done + 20)
    ctl("pause_channel", 0)
    still = until(
        lambda s: s.channels[0].paused and s.channels[0].claimed == 0 and s.channels[0].waiting == 20
    )
    ctl("start_channel", 0)
    until(lambda s: s.channels[0].done > still.channels[0].done + 20)
    ctl("pause_all")
    until(
        lambda s: (
            s.devices[0].state == "paused" and s.channels[0].claimed == 0 and s.channels[0].waiting >= 20
        )
    )
    full = reader.snapshot().channels[0].waiting  # Handed-back tasks may exceed the capacity (law 6).
    assert full >= 20
    assert ctl("reset_max_task", 5, 0)["channels"] == [0]
    assert until(lambda s: s.channels[0].capacity == 5).channels[0].waiting == full  # Nothing is dropped.
    assert ctl("reset_task_max", 30) == {
        "command": "reset_max_task", "ok": True, "capacity": 30, "channels": [0, 1],
        "text": "capacity of TaskChannel0, TaskChannel1 is 30 now",
    }  # fmt: skip
    assert ctl("reset_rate", "100000/s", 0)["rate"] == "100000/s"
    assert until(lambda s: s.channels[0].rate_limit == "100000/s").channels[1].rate_limit == ""
    until(lambda s: s.channels[0].capacity == 30 and s.channels[0].waiting >= 30)
    assert ctl("skip_item", 1)["item"] == 1
    assert until(lambda s: s.channels[1].exhausted).channels[1].allotted == 2

    # Failed tasks
    failed = {task.number: task.id for task in reader.failed_tasks(0, 0, 1_000_000)}
    assert len(failed) >= 3 and all(number % 10 == 7 for number in failed)
    assert ctl("detect_fail_channel")["failed"] == {"0": len(failed), "1": 0}
    exported = ctl("export_fail_tasks", 0)
    lines = [json.loads(line) for line in Path(exported["path"]).read_text().splitlines()]
    assert exported["count"] == len(lines) == len(failed)
    assert {line["id"] for line in lines} == set(failed.values())
    assert lines[0]["stage"] == "run" and lines[0]["type"] == "ValueError" and lines[0]["runs"] == 1
    assert "ends in seven" in lines[0]["traceback"] and lines[0]["task"] % 10 == 7
    assert ctl("edit_fail_task", 0, 7, "-5")["edited"] == 1
    assert ctl("reload_one_fail_task", 0, failed[17])["reloaded"] == 1
    assert ctl("delete_one_fail_task", 0, 27)["deleted"] == 1
    again = until(lambda s: s.channels[0].failed == len(failed) - 3)
    assert again.balanced and again.channels[0].deleted == 1
    assert ctl("reload_all_fail_tasks", 0)["reloaded"] == len(failed) - 3
    assert until(lambda s: s.channels[0].failed == 0).balanced

    # Running tasks. tests/agent/test_cancel.py cancels some.
    refused = mutitask("ctl", "cancel_task", 0, 0, "--yes", "--redis", redis_url)
    assert refused.status == 2 and "task 0 does not run" in refused.stderr
    carried_out.add("cancel_task")

    # The grid
    assert ctl("add_device")["devices"] == 4
    assert ctl("del_device")["devices"] == 3
    before = until(lambda s: True).devices
    assert ctl("restart_one", 1)["devices"] == [1]
    until(lambda s: s.devices[1].state == "paused" and s.devices[1].actor != before[1].actor)
    assert ctl("restart_all")["devices"] == [0, 1]
    until(lambda s: s.devices[0].state == "paused" and s.devices[0].actor != before[0].actor)
    until(lambda s: s.devices[1].state == "paused")
    assert ctl("stop_one", 1)["devices"] == [1]
    until(lambda s: s.devices[1].state == "offline")
    assert ctl("purge_device", 1)["purged"] is True
    assert until(lambda s: s.devices[1].seen_s is None).devices[1].pid == 0

    # The end
    ctl("stop_allot")
    refused = mutitask("ctl", "start_allot", "--redis", redis_url)
    assert refused.status == 2 and "feeding was ended for good by stop_allot" in refused.stderr
    ctl("start_all")
    rest = until(lambda s: s.channels[0].open == 0 and s.channels[1].claimed == 0)
    assert rest.balanced and rest.channels[1].waiting + rest.channels[1].done == 2
    results = {line["number"]: line["result"] for line in export(redis_url, 0)}
    assert results[7] == [-5]
    again_failed = {task.number: task.id for task in reader.failed_tasks(0, 0, 1_000_000)}
    assert {7, 27}.isdisjoint(again_failed)
    assert all(again_failed[number] == failed[number] for number in set(failed) - {7, 27})
    assert ctl("stop_all")["devices"] == [0]
    until(lambda s: all(device.state == "offline" for device in s.devices))
    assert ctl("exit")["server"] is True
    assert server.wait() == 0, server
    assert reader.snapshot().server is None

    assert carried_out == {command.name for command in COMMANDS if command.run}


def export(url: str, channel: int) -> list[Any]:
    return mutitask("results", "export", "--channel", channel, "--redis", url).lines


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """A server with one paused agent and twenty waiting tasks."""
    with Stack(redis_url, "ctl", iter(range(100)), capacity=20) as stack:
        stack.agent(0)
        stack.until(lambda s: s.channels[0].waiting == 20)
        yield stack


def test_without_json_a_command_prints_one_sentence(stack: Stack) -> None:
    result = stack.ctl("pause_one", 0)
    assert (result.status, result.stdout, result.stderr) == (0, "asked Device0 to pause\n", "")


def test_help_is_a_command_that_lists_them_all(stack: Stack) -> None:
    result = stack.ctl("help")
    assert result.status == 0
    assert all(command.usage in result.stdout for command in COMMANDS if command.run)


def test_an_alias_is_the_command(stack: Stack) -> None:
    assert stack.done("reset_task_max", 9)["command"] == "reset_max_task"
    assert stack.channel().capacity == 9
    for alias in ("stop", "quit"):
        assert mutitask("ctl", alias, "now", "--redis", stack.url, "--name", stack.name).stderr == (
            "mutitask: usage: exit\n"
        )


def test_an_unknown_channel_cannot_be_assigned(stack: Stack) -> None:
    result = stack.ctl("assign", 0, "0,7")
    assert (result.status, result.stdout) == (2, "")
    assert result.stderr == "mutitask: there is no TaskChannel7; there is TaskChannel0 to TaskChannel0\n"


def test_assigned_channels_outlive_an_agent(stack: Stack) -> None:
    """They belong to the device number, as pause and start do (law 4)."""
    stack.until(lambda s: s.devices[0].channels == (0,))
    stack.done("assign", 0, "all")
    stack.until(lambda s: s.devices[0].channels is None)
    stack.done("stop_one", 0)
    stack.until(lambda s: s.devices[0].state == "offline")
    stack.agent(0)
    stack.until(lambda s: s.devices[0].channels is None)


def test_a_command_is_written_to_the_event_log(stack: Stack) -> None:
    stack.done("pause_one", 0)
    assert any("pause_one 0 - asked Device0 to pause" in event.text for event in stack.snapshot().events)


def test_detect_reports_a_device_without_an_agent_as_offline_within_the_time_limit(stack: Stack) -> None:
    stack.done("add_device")
    began = time.monotonic()
    found = stack.done("detect_one", 1)
    assert found["devices"] == {"1": {"state": "offline", "ms": None}}
    assert found["text"] == "Device1 offline (no answer in 1 s)"
    assert time.monotonic() - began < 5


def test_pause_and_start_outlive_an_agent(stack: Stack) -> None:
    """Pause and start belong to the device number, a stop belongs to the present agent (law 4)."""
    stack.done("start_one", 0)
    stack.until(lambda s: s.devices[0].state == "running")
    stack.done("stop_one", 0)
    stack.until(lambda s: s.devices[0].state == "offline")
    stack.agent(0)
    stack.until(lambda s: s.devices[0].state == "running")
    stack.done("pause_one", 0)
    stack.until(lambda s: s.devices[0].state == "paused")


def test_a_paused_device_hands_back_tasks_that_have_not_started(stack: Stack) -> None:
    stack.done("start_all")
    stack.until(lambda s: s.channels[0].done > 0)
    stack.done("pause_all")
    paused = stack.until(lambda s: s.devices[0].state == "paused" and s.channels[0].claimed == 0)
    assert paused.balanced


def test_a_reloaded_task_has_fresh_retries_and_keeps_its_id(redis_url: str) -> None:
    seen: list[Any] = []

    def succeeds_when_edited(task: Any) -> Any:
        seen.append(task)
        return task if isinstance(task, dict) else None

    with Stack(redis_url, "mending", iter(["broken"]), retries=2) as stack:
        stack.agent(0, task_function=succeeds_when_edited)
        stack.done("start_all")
        stack.until(lambda s: s.channels[0].failed == 1)
        assert seen == ["broken"] * 3
        (failed,) = stack.failed_ids()

        stack.done("reload_one_fail_task", 0, failed)
        stack.until(lambda s: s.channels[0].failed == 1 and len(seen) == 6)
        stack.done("edit_fail_task", 0, failed, '{"url": "a  b", "n": [1, null]}')
        stack.until(lambda s: s.channels[0].done == 1)

        (line,) = mutitask("results", "export", "--redis", redis_url, "--name", "mending").lines
        assert line["id"] == failed
        assert line["result"] == seen[-1] == {"url": "a  b", "n": [1, None]}
        assert stack.snapshot().balanced


def test_exit_stops_agents_first_and_keeps_waiting_tasks(redis_url: str) -> None:
    with Stack(redis_url, "leaving", iter(range(100)), capacity=20) as stack:
        stack.agent(0, task_function=double)
        stack.until(lambda s: s.channels[0].waiting == 20)
        result = stack.done("quit", "--yes")
        assert result["text"].startswith(
            "asked 1 agent to stop and the server to close after them, within 30 s"
        )
        assert stack.core.ended.wait(15) and stack.core.quit
        after = stack.snapshot()
        assert after.server is None and after.devices[0].state == "offline"
        assert after.channels[0].waiting == 20 and after.balanced
        assert stack.done("exit")["server"] is False  # There is no server any more, and the command says so.


def test_a_typed_line_keeps_the_blanks_of_its_json() -> None:
    command, values = parse_line('  edit_fail_task\t0 7 {"a":  "b  c"} ')
    assert command.name == "edit_fail_task"
    assert values == (0, "7", {"a": "b  c"})
    assert parse_line("stop") == (parse_line("exit")[0], ())
