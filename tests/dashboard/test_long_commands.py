"""Commands that take long: progress in the status line, Escape stops them, other commands need not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.server import watch as watching
from mutitask_tui.server.commands.registry import Command, Outcome
from mutitask_tui.server.watch import current_watch
from tests.dashboard.conftest import Opened, press, screen_text, settle
from tests.dashboard.fake_backend import FakeBackend, fail
from tests.dashboard.test_fail_search import typed, until


class SlowBackend(FakeBackend):
    """Tells its progress, then goes on with a long command until it is stopped or let go."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.go = threading.Event()

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry out a long command slowly."""
        outcome = super().run(command, values)
        return self._slowly() if command.long else outcome

    def run_many(self, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
        """Carry out a command on many failed tasks slowly."""
        super().run_many(command, targets)
        return self._slowly()

    def _slowly(self) -> Outcome:
        watch = current_watch()
        watch.tell("reloaded", 120_000, 1_000_000)
        while not watch.stopped:
            if self.go.wait(0.01):
                return Outcome("1,000,000 failed tasks went back")
        return Outcome("stopped: 120,000 failed tasks went back; the others stay", data={"stopped": True})


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowBackend]:
    """A backend whose long commands run until they are stopped or let go."""
    monkeypatch.setattr(watching.Watch.__init__, "__defaults__", (lambda _text: None, 0.0))
    backend = SlowBackend(fails=[fail(n) for n in range(3)])
    yield backend
    backend.go.set()


def tells(pilot: Any) -> Callable[[], bool]:
    """Return whether the screen shows the progress."""
    return lambda: "reloaded 120,000 of 1,000,000 (Esc stops it)" in screen_text(pilot)


@pytest.mark.parametrize(
    "keys",
    [
        ("R", "right", "enter"),
        ("F", "R", "right", "enter"),
        ("colon", *"reload_all_fail_tasks", "enter", "right", "enter"),
    ],
)
async def test_escape_stops_a_reload_of_all_on_every_screen(
    opened: Opened, slow: SlowBackend, keys: tuple[str, ...]
) -> None:
    async with opened(slow) as pilot:
        await typed(pilot, *keys)
        await until(pilot, tells(pilot))
        screen = pilot.app.screen
        await press(pilot, "escape")
        assert "! reload_all_fail_tasks: stopped: 120,000 failed tasks went back" in screen_text(pilot)
        assert pilot.app.screen is screen
        await press(pilot, "F", "escape")
        assert not isinstance(pilot.app.screen, FailsScreen)


async def test_escape_first_closes_a_dialog_or_an_input_line(opened: Opened, slow: SlowBackend) -> None:
    async with opened(slow) as pilot:
        await typed(pilot, "R", "right", "enter")
        await until(pilot, tells(pilot))
        await typed(pilot, "colon", "x", "escape", "t", "escape")
        assert pilot.app.runs_long_command  # type: ignore[attr-defined]
        slow.go.set()
        await settle(pilot)
        assert "1,000,000 failed tasks went back" in screen_text(pilot)


async def test_other_commands_do_not_wait_for_a_long_one_and_leaving_stops_it(
    opened: Opened, slow: SlowBackend
) -> None:
    async with opened(slow) as pilot:
        await typed(pilot, "R", "right", "enter")
        await until(pilot, tells(pilot))
        await typed(pilot, "P")
        await until(pilot, lambda: ("pause_all", ()) in slow.asked)


async def test_escape_stops_a_command_on_marked_tasks(opened: Opened, slow: SlowBackend) -> None:
    async with opened(slow) as pilot:
        await typed(pilot, "F")
        await settle(pilot)
        await typed(pilot, "asterisk", "x", "right", "enter")
        await until(pilot, tells(pilot))
        await press(pilot, "escape")
        assert "delete_one_fail_task on 3 failed tasks: stopped: 120,000" in screen_text(pilot)
        assert isinstance(pilot.app.screen, FailsScreen)
