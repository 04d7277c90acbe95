"""A Link over made-up snapshots: a second implementation of the interface, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mutitask_tui.server.commands import Command, CommandError, Outcome
from mutitask_tui.server.snapshot import (
    ChannelView,
    DeviceView,
    Event,
    FailedTask,
    ServerView,
    Snapshot,
)

NOW_MS = 1_790_000_000_000


def channel(number: int, **changes: Any) -> ChannelView:
    """A channel whose books balance unless `allotted` is given."""
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
    """A device in that state, wished to be so."""
    gone = state == "offline"
    values: dict[str, Any] = {
        "id": number,
        "state": state,
        "wished": "paused" if state == "paused" else "running",
        "actor": f"a-{number:04}",
        "host": f"node-{number}",
        "pid": 4000 + number,
        "channel": 0,
        "running": 1 if state == "running" else 0,
        "current": f"'/usr/lib/python3.11/module_{number}.py'" if state == "running" else "",
        "current_s": 0.4,
        "done": 1000 + number,
        "failed": 0,
        "seen_s": 42.0 if gone else 0.3,
        "since_ms": NOW_MS - 3_600_000,
        "version": "0.1.0",
        **changes,
    }
    return DeviceView(**values)


def event(number: int, text: str = "", **changes: Any) -> Event:
    """One line of the log."""
    values: dict[str, Any] = {
        "id": f"{NOW_MS + number}-0",
        "at_ms": NOW_MS + number * 1000,
        "level": "info",
        "who": "server",
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
            device(1, failed=3),
            device(2, "paused", wished="running"),
            device(3, "offline"),
            device(4, "offline", seen_s=None, host="", pid=0, actor="", done=0),
        ),
        "events": (
            event(0, "started on localhost:6379/0"),
            event(1, "joined TaskChannel0", who="Device0"),
            event(2, "3 tasks failed for good", level="warning", who="Device1"),
            event(3, "its lease ran out: 4 tasks went back", level="error", who="Device3"),
        ),
        **changes,
    }
    return Snapshot(**values)


class FakeLink:
    """Answers from what it was given, and keeps what it was asked."""

    def __init__(self, now: Snapshot | None = None, fails: Sequence[FailedTask] = ()) -> None:
        self.now = now or snapshot()
        self.fails = tuple(fails)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.outcome = Outcome("done as asked")
        self.read_only = False
        self.owns_server = True
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self.polls = 0

    def snapshot(self) -> Snapshot:
        """The snapshot that it was given, unless it is in trouble."""
        self.polls += 1
        if self.error is not None:
            raise self.error
        return self.now

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Keep what was asked; a view's own command is none of a link's business."""
        if command.run is None:
            raise CommandError(f"{command.name} belongs to a dashboard")
        self.asked.append((command.name, tuple(values)))
        if self.refusal is not None:
            raise self.refusal
        return self.outcome

    def failed_tasks(self, channel: int | None, offset: int, limit: int) -> tuple[FailedTask, ...]:
        """The failed tasks that it was given, cut to the page."""
        if self.error is not None:
            raise self.error
        found = [task for task in self.fails if channel in (None, task.channel)]
        return tuple(found[offset : offset + limit])

    def join_line(self) -> str:
        """A line as the server would give it."""
        return "worker-agent job.py --redis redis://head-node:6379/0 --name stdlib --device auto --channel 0"

    def change(self, **changes: Any) -> None:
        """Another snapshot from now on."""
        self.now = replace(self.now, **changes)
