"""A backend with made-up snapshots for the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mutitask_tui.server.commands.registry import Command, CommandError, Outcome
from mutitask_tui.server.snapshot import (
    ChannelView,
    DeviceView,
    Event,
    FailedDetail,
    FailedRun,
    FailedTask,
    ResultView,
    RunningDetail,
    RunningTask,
    Sample,
    ServerView,
    Snapshot,
    WaitingTask,
)
from worker_agent.protocol.task_line import TaskLine

NOW_MS = 1_790_000_000_000


def channel(number: int, **changes: Any) -> ChannelView:
    """A channel with balanced counters unless `allotted` is given."""
    values: dict[str, Any] = {
        "id": number,
        "capacity": 20,
        "waiting": 18,
        "claimed": 4,
        "delayed": 0,
        "done": 12_345,
        "failed": 0,
        "deleted": 0,
        "foreign": 0,
        "results": 0,
        "results_max": 100_000,
        "rate": 1234.0,
        "allotting": True,
        "paused": False,
        "exhausted": False,
        "halted": "",
        **changes,
    }
    held = ("waiting", "claimed", "delayed", "done", "failed", "deleted")
    return ChannelView(**{"allotted": sum(values[name] for name in held), **values})


def device(number: int, state: str = "running", **changes: Any) -> DeviceView:
    """A device in that state, which is also its desired state. It serves `channels`, or only its `channel`."""
    gone = state == "offline"
    values: dict[str, Any] = {
        "id": number,
        "state": state,
        "desired": "paused" if state == "paused" else "running",
        "actor": f"a-{number:04}",
        "host": f"node-{number}",
        "pid": 4000 + number,
        "channel": 0,
        "running": 1 if state == "running" else 0,
        "current": f"'/usr/lib/python3.11/module_{number}.py'" if state == "running" else "",
        "current_s": 0.4,
        "done": 1000 + number,
        "errors": 0,
        "seen_s": 42.0 if gone else 0.3,
        "since_ms": NOW_MS - 3_600_000,
        "version": "0.1.0",
        "python": "3.11.7",
        "concurrency": 1,
        **changes,
    }
    if values["current"]:
        first = RunningTask(
            values["current"], values["current_s"], f"run00000{number:012d}", values["channel"]
        )
        values.setdefault("tasks", (first,))
    seen = values["seen_s"] is not None
    return DeviceView(**{"channels": (values["channel"],) if seen else (), **values})


def event(number: int, text: str = "", **changes: Any) -> Event:
    """One line of the log."""
    values: dict[str, Any] = {
        "id": f"{NOW_MS + number}-0",
        "at_ms": NOW_MS + number * 1000,
        "level": "info",
        "source": "server",
        "text": text or f"something happened {number}",
        **changes,
    }
    return Event(**values)


def fail(number: int, **changes: Any) -> FailedTask:
    """One failed task."""
    values: dict[str, Any] = {
        "channel": 0,
        "id": f"r1-{number:06}",
        "number": number,
        "failed_ms": NOW_MS - number * 1000,
        "runs": 4,
        "stage": "run",
        "error_type": "SyntaxError",
        "error": f"invalid syntax (bad_{number}.py, line {number})",
        "traceback": (
            "Traceback (most recent call last):\n"
            '  File "stdlib_report.py", line 31, in task_function\n'
            "    tree = ast.parse(source)\n"
            f"SyntaxError: invalid syntax (bad_{number}.py, line {number})"
        ),
        "device": number % 5,
        "task": f'"/usr/lib/python3.11/lib2to3/tests/data/bad_{number}.py"',
        **changes,
    }
    return FailedTask(**values)


def detail(task: FailedTask, **changes: Any) -> FailedDetail:
    """A failed task in full; its payload is what `task` shows of it, or `payload`."""
    payload = changes.pop("payload", task.task.strip('"'))
    runs = tuple(
        FailedRun(
            task.failed_ms - (task.runs - n - 1) * 2000,
            task.device,
            task.stage,
            task.error_type,
            task.error,
            task.traceback,
        )
        for n in range(task.runs)
    )
    values: dict[str, Any] = {
        "task": task,
        "attempt": task.runs - 1,
        "crashes": 0,
        "payload": payload,
        "unpacks": True,
        "json": None if "json" in changes else json.dumps(payload, indent=2, ensure_ascii=False),
        "size": 57,
        "failed_runs": runs,
        **changes,
    }
    return FailedDetail(**values)


def waiting_task(number: int, **changes: Any) -> WaitingTask:
    """One waiting task."""
    values: dict[str, Any] = {
        "id": f"r1-{number:06}",
        "number": number,
        "attempt": 0,
        "crashes": 0,
        "task": f"/usr/lib/python3.11/json/module_{number}.py",
        "size": 40,
        **changes,
    }
    return WaitingTask(**values)


def result(number: int, **changes: Any) -> ResultView:
    """One waiting result."""
    values: dict[str, Any] = {
        "id": f"r1-{number:06}",
        "number": number,
        "attempt": 0,
        "device": number % 5,
        "finished_ms": NOW_MS - number * 100,
        "result": f"{{'lines': {number}}}",
        **changes,
    }
    return ResultView(**values)


def snapshot(**changes: Any) -> Snapshot:
    """Two channels, five devices, a few events."""
    values: dict[str, Any] = {
        "name": "stdlib",
        "redis": "localhost:6379/0",
        "run": "r1",
        "now_ms": NOW_MS,
        "started_ms": NOW_MS - 754_000,
        "server": ServerView("s-1", "head-node", 1234, NOW_MS - 754_000, True),
        "channels": (
            channel(0),
            channel(1, waiting=27, claimed=2, done=4321, failed=3, results=12, rate=87.0),
        ),
        "devices": (
            device(0),
            device(1, errors=3),
            device(2, "paused", desired="running", channel=1),
            device(3, "offline"),
            device(4, "offline", seen_s=None, host="", pid=0, actor="", done=0),
        ),
        "events": (
            event(0, "started on localhost:6379/0"),
            event(1, "joined TaskChannel0", source="Device0"),
            event(2, "3 tasks failed for good", level="warning", source="Device1"),
            event(3, "its lease ran out: 4 tasks went back", level="error", source="Device3"),
        ),
        **changes,
    }
    return Snapshot(**values)


class FakeBackend:
    """Returns what a test has set, and records what it is asked for."""

    def __init__(self, now: Snapshot | None = None, fails: Sequence[FailedTask] = ()) -> None:
        self.now = now or snapshot()
        self.fails = tuple(fails)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.outcome = Outcome("done as asked")
        self.read_only = False
        self.join_note = ""
        self.owns_server = True
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self.polls = 0
        self.reads: list[str] = []
        """The detail methods that were called, in order."""
        self.details: dict[str, FailedDetail | None] = {}
        """Failed tasks in full by id, where `fails` is not enough."""
        self.many: Outcome | None = None
        self.page = 500
        """How many failed tasks `failed_pages` yields at once."""
        self.on_page: Callable[[int], None] = lambda _number: None
        """Called before each page with its number."""
        self.waiting = tuple(waiting_task(n) for n in range(18))
        self.results = tuple(result(n) for n in range(12))
        self.log = tuple(f"2026-11-24 03:00:{n:02}Z INFO line {n} of the log" for n in range(30))
        self.lines: tuple[TaskLine, ...] = ()
        self.running: RunningDetail | None = None

    def snapshot(self) -> Snapshot:
        """Return the snapshot, or raise `error` if it is set."""
        self.polls += 1
        if self.error is not None:
            raise self.error
        return self.now

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Record the command. A command of the view itself must not arrive here."""
        if command.run is None:
            raise CommandError(f"{command.name} belongs to a dashboard")
        self.asked.append((command.name, tuple(values)))
        if self.refusal is not None:
            raise self.refusal
        return self.outcome

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """Return a page of the failed tasks."""
        if self.error is not None:
            raise self.error
        return self._newest_first(channel)[offset : offset + limit]

    def failed_pages(self, channel: int | None) -> Iterator[tuple[FailedTask, ...]]:
        """Yield the failed tasks in pages."""
        self._reading("failed_pages")
        found = self._newest_first(channel)
        for number, first in enumerate(range(0, len(found), self.page)):
            self.on_page(number)
            yield found[first : first + self.page]

    def failed_by_id(self, fails: Sequence[tuple[int, str, int]]) -> tuple[FailedTask, ...]:
        """Return those that are still there."""
        self._reading("failed_by_id")
        asked = {(channel, id_) for channel, id_, _ in fails}
        return tuple(task for task in self._newest_first(None) if (task.channel, task.id) in asked)

    def _newest_first(self, channel: int | None) -> tuple[FailedTask, ...]:
        found = [task for task in self.fails if channel in (None, task.channel)]
        return tuple(sorted(found, key=lambda task: -task.failed_ms))

    def run_many(self, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
        """Record the command with all targets."""
        self.asked.append((f"{command.name}*", tuple(tuple(target) for target in targets)))
        if self.refusal is not None:
            raise self.refusal
        return self.many or Outcome(f"{command.name} on {len(targets)}", data={"asked": len(targets)})

    def export_failed(self, targets: Sequence[tuple[int, str]]) -> Outcome:
        """Record what was to be exported."""
        self.asked.append(("export_failed", tuple(targets)))
        return Outcome(f"{len(targets)} failed tasks written to fails.jsonl")

    def failed_task(self, channel: int, id_: str) -> FailedDetail | None:
        """Return the task from `details`, or make it from the list."""
        self._reading("failed_task")
        if id_ in self.details:
            return self.details[id_]
        found = next((task for task in self.fails if (task.channel, task.id) == (channel, id_)), None)
        return None if found is None else detail(found)

    def waiting_tasks(self, channel: int, limit: int) -> tuple[WaitingTask, ...]:
        """Return what was set."""
        self._reading("waiting_tasks")
        return self.waiting[:limit]

    def last_results(self, channel: int, limit: int) -> tuple[ResultView, ...]:
        """Return what was set."""
        self._reading("last_results")
        return self.results[:limit]

    def device_log(self, device: int) -> tuple[str, ...]:
        """Return the lines that were set."""
        self._reading("device_log")
        return self.log

    def task_lines(self, device: int) -> tuple[TaskLine, ...]:
        """Return the lines that were set."""
        self._reading("task_lines")
        return self.lines

    def running_task(self, actor: str, channel: int, id_: str) -> RunningDetail | None:
        """Return the payload that was set."""
        self._reading("running_task")
        return self.running

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        """Return no samples."""
        self._reading("history")
        return tuple(() for _ in self.now.channels)

    def _reading(self, name: str) -> None:
        self.reads.append(name)
        if self.error is not None:
            raise self.error

    def join_line(self) -> str:
        """Return a line like the server's."""
        return "worker-agent job.py --redis redis://head-node:6379/0 --name stdlib --device auto"

    def change(self, **changes: Any) -> None:
        """Change the snapshot."""
        self.now = replace(self.now, **changes)
