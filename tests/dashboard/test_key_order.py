"""Keys typed ahead act as if they were typed slowly."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from mutitask_tui.dashboard.actions import key_order
from mutitask_tui.dashboard.actions.key_order import KeyOrderApp
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.help import HelpScreen
from mutitask_tui.dashboard.screens.leave import LeaveScreen
from mutitask_tui.dashboard.screens.main import MainScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.line_input import CommandLine, FilterLine
from tests.dashboard.conftest import Opened, press, settle
from tests.dashboard.fake_backend import FakeBackend

KEYS = {
    ":": "colon", "/": "slash", " ": "space", "?": "question_mark", "\r": "enter", "\x1b": "escape",
    "\x7f": "backspace", "\t": "tab",
}  # fmt: skip


def post(pilot: Pilot[Any], text: str) -> None:
    """Send all keys before the first one is handled."""
    for letter in text:
        pilot.app.post_message(events.Key(KEYS.get(letter, letter), letter))


async def type_ahead(pilot: Pilot[Any], text: str) -> None:
    """Send keys ahead, and wait until all of them are handled."""
    app = pilot.app
    assert isinstance(app, KeyOrderApp)
    until = app._delivered + len(text)
    post(pilot, text)
    while app._key_in_progress or app._delivered < until:
        await pilot.pause()
    await settle(pilot)


async def test_keys_typed_ahead_into_a_line_are_text(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await type_ahead(pilot, ":sTpSP 1")
        assert pilot.app.screen.query_one(CommandLine).value == "sTpSP 1"
        await press(pilot, "escape")
        await type_ahead(pilot, "/sTpS:/")
        assert pilot.app.screen.query_one(FilterLine).value == "sTpS:/"
        assert backend.asked == []


async def test_keys_typed_after_a_line_act(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await type_ahead(pilot, ":pause_all\rSF")
        assert backend.asked == [("pause_all", ()), ("start_all", ())]
        assert isinstance(pilot.app.screen, FailsScreen)
        assert pilot.app.screen_stack[0].query_one(CommandLine).value == "pause_all"
        await type_ahead(pilot, "\x7f/Device3\rs")
        assert backend.asked[2:] == [("start_one", (3,))]
        assert isinstance(pilot.app.focused, DeviceGrid)


@pytest.mark.parametrize(
    ("typed", "screen"),
    [
        ("F\x7f\r", DeviceScreen),
        (":help\r\x1bF", FailsScreen),
        ("?\x1b?", HelpScreen),
        ("q\x1bq", LeaveScreen),
        ("q\r:", MainScreen),
        ("m", PromptScreen),
    ],
)
async def test_screens_open_and_close_in_order(
    opened: Opened, backend: FakeBackend, typed: str, screen: type[object]
) -> None:
    async with opened() as pilot:
        await type_ahead(pilot, typed)
        assert isinstance(pilot.app.screen, screen)
        assert backend.asked == []


async def test_keys_typed_ahead_of_a_prompt_answer_it(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await type_ahead(pilot, "m\x7f50\rP")
        assert backend.asked == [("reset_max_task", (50, 0)), ("pause_all", ())]


async def test_enter_typed_ahead_of_a_question_cancels(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await type_ahead(pilot, "T\r\r")
        assert backend.asked == []
        assert isinstance(pilot.app.screen, DeviceScreen)
        await type_ahead(pilot, "\x1bT\t\r")
        assert not isinstance(pilot.app.screen, ConfirmScreen)
        assert backend.asked == [("stop_all", ())]


async def test_a_key_that_cannot_be_followed_delays_the_next_only_briefly(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as pilot:
        monkeypatch.setattr(pilot.app, "_follow", lambda number, stations: None)
        monkeypatch.setattr(key_order, "TIMEOUT_S", 0.01)
        post(pilot, ":ab")
        line = pilot.app.screen.query_one(CommandLine)
        while line.value != "ab":
            await pilot.pause()
