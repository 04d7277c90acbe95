"""The `:` line runs commands; `/` filters the devices."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from mutitask_tui.dashboard.model.text_filter import matches
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.dashboard.screens.leave import LeaveScreen
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.line_input import CommandLine, common_prefix, completions
from tests.dashboard.conftest import Opened, press, screen_text
from tests.dashboard.fake_backend import FakeBackend


def ids(kind: str) -> list[str]:
    """Two devices, one channel."""
    return {"device": ["0", "12"], "channel": ["0"], "channels": ["all", "0"]}.get(kind, [])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pause_a", ["pause_all", "pause_allot"]),
        ("reset_", ["reset_max_task", "reset_rate", "reset_task_max"]),
        ("pause_one 1", ["pause_one 12"]),
        ("pause_one ", ["pause_one 0", "pause_one 12"]),
        ("pause_all ", []),
        ("nonsense 1", []),
        ("reset_max_task 20 ", ["reset_max_task 20 0"]),
        ("assign 12 ", ["assign 12 all", "assign 12 0"]),
        ("assign 12 a", ["assign 12 all"]),
    ],
)
def test_completions(line: str, found: list[str]) -> None:
    assert completions(line, ids) == found


def test_common_prefix() -> None:
    assert common_prefix(["pause_all", "pause_allot"]) == "pause_all"
    assert common_prefix(["stop"]) == "stop"


@pytest.mark.parametrize(
    ("filter_text", "fits"),
    [
        ("", True),
        ("DEVICE3", True),
        ("offline node", True),
        ("running", False),
        ("!running", True),
        ("!", True),
    ],
)
def test_filter_words(filter_text: str, fits: bool) -> None:
    assert matches("device3 offline node-3", filter_text) is fits


async def test_a_typed_command_runs(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"pause_one 3", "enter")
        assert backend.asked == [("pause_one", (3,))]
        assert isinstance(pilot.app.focused, DeviceGrid)


async def test_channels_are_completed_and_assigned(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"assign 3 a", "tab", "enter")
        await press(pilot, "colon", *"assign 3 1, 0", "enter")
        assert backend.asked == [("assign", (3, "all")), ("assign", (3, "1,0"))]


async def test_no_line_opens_behind_a_dialog(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "question_mark", "colon", "slash")
        assert isinstance(pilot.app.screen, HelpScreen)
        await press(pilot, "escape")
        assert isinstance(pilot.app.focused, DeviceGrid)


async def test_letters_and_symbols_are_text_while_typing(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"PSq+-/?j", "ctrl+d")
        assert pilot.app.screen.query_one(CommandLine).value == "PSq+-/?j"
        assert pilot.app.is_running
        assert backend.asked == []


async def test_a_wrong_line_shows_the_error_and_stays_for_correction(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"pause_on 0", "enter")
        assert "did you mean pause_one?" in screen_text(pilot)
        assert isinstance(pilot.app.focused, CommandLine)
        assert backend.asked == []
        await press(pilot, "escape")
        assert isinstance(pilot.app.focused, DeviceGrid)


async def test_tab_completes_the_common_prefix(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"pa", "tab")
        line = pilot.app.screen.query_one(CommandLine)
        assert line.value == "pause_"
        await press(pilot, "tab")
        assert "pause_all  pause_allot  pause_channel  pause_one" in screen_text(pilot)
        await press(pilot, "o", "tab")
        assert line.value == "pause_one "
        await press(pilot, "2", "tab", "enter")
        assert backend.asked == [("pause_one", (2,))]


async def test_right_accepts_the_suggestion(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"detect_f")
        await press(pilot, "right")
        assert pilot.app.screen.query_one(CommandLine).value == "detect_fail_channel"


async def test_up_and_down_step_through_the_history(opened: Opened) -> None:
    async with opened() as pilot:
        for typed in ("pause_one 1", "start_one 1", "start_one 1"):
            await press(pilot, "colon", *typed, "enter")
        await press(pilot, "colon", "up", "up")
        line = pilot.app.screen.query_one(CommandLine)
        assert line.value == "pause_one 1"
        await press(pilot, "up", "down")
        assert line.value == "start_one 1"
        await press(pilot, "down")
        assert line.value == ""


async def test_a_dangerous_command_asks_on_the_line_too(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"stop_all", "enter")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await press(pilot, "enter")
        assert backend.asked == []


@pytest.mark.parametrize("word", ["exit", "stop", "quit"])
async def test_the_words_for_leaving_ask(word: str, opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *word, "enter")
        assert isinstance(pilot.app.screen, LeaveScreen)


async def test_detach_and_help_can_be_typed(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "colon", *"help", "enter")
        assert isinstance(pilot.app.screen, HelpScreen)
        await press(pilot, "escape")
        await pilot.press("colon", *"detach", "enter")
        await pilot.pause()
    assert pilot.app.return_value == "detach"


async def test_the_line_works_on_other_screens(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "enter", "colon", *"pause_all", "enter")
        assert backend.asked == [("pause_all", ())]


async def test_the_filter_applies_while_typing_and_is_shown(opened: Opened) -> None:
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await press(pilot, "slash", *"offline")
        assert [d.id for d in grid.items] == [3, 4]
        assert "2 match /offline" in screen_text(pilot)
        await press(pilot, "enter")
        assert grid.has_focus
        assert [d.id for d in grid.items] == [3, 4]
        await press(pilot, "escape")
        assert len(grid.items) == 5


async def test_a_command_for_all_names_the_hidden_devices(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "slash", *"node-1", "enter", "T")
        question = str(pilot.app.screen.query(Static).first().content)
        assert question == "all 5 devices (2 running, 1 paused, 2 offline; 4 of them hidden)"
