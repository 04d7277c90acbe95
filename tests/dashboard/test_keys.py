"""Every key of the registry sends its command, with what was selected when it was pressed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual.binding import Binding
from textual.widgets import Button, Input

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS, app_bindings
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.edit import EditScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.screens.leave import LeaveScreen
from mutitask_tui.dashboard.screens.main import MainScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.payload_tree import PayloadTree
from mutitask_tui.dashboard.widgets.tail_view import TailView
from mutitask_tui.server.commands.registry import COMMANDS, Outcome, find
from tests.dashboard.conftest import Opened, poll, press, screen_text, settle
from tests.dashboard.fake_backend import FakeBackend, device

ON_MAIN: dict[str, tuple[Any, ...]] = {
    "detect_all": (),
    "detect_one": (1,),
    "pause_all": (),
    "pause_one": (1,),
    "start_all": (),
    "start_one": (1,),
    "pause_allot": (),
    "start_allot": (),
    "detect_fail_channel": (),
    "reload_all_fail_tasks": (),
    "export_fail_tasks": (),
    "pause_channel": (0,),
    "start_channel": (0,),
    "skip_item": (0,),
    "add_device": (),
    "del_device": (),
    "stop_one": (1,),
    "stop_all": (),
    "restart_one": (1,),
    "restart_all": (),
    "stop_allot": (),
    "purge_device": (1,),
}
"""What each key sends from the main screen, with Device1 and TaskChannel0 selected."""

ON_FAILS: dict[str, tuple[Any, ...]] = {
    "reload_one_fail_task": (0, "r1-000001"),
    "delete_one_fail_task": (0, "r1-000001"),
    "reload_all_fail_tasks": (),
    "export_fail_tasks": (),
}

ASKED_FOR = (
    "assign",
    "reset_max_task",
    "reset_rate",
    "reload_one_fail_task",
    "delete_one_fail_task",
    "edit_fail_task",
    "cancel_task",
)


def test_every_command_with_a_key_has_its_binding() -> None:
    bound = {binding.id: binding.key for binding in app_bindings()}
    assert {c.name: c.key for c in COMMANDS if c.key}.items() <= bound.items()


def test_the_view_uses_no_key_of_a_command() -> None:
    keys = [key for binding in VIEW_BINDINGS for key in binding.key.split(",")]
    assert not set(keys) & {c.key for c in COMMANDS}
    assert len(keys) == len(set(keys))


def _every(owner: type[Any]) -> Iterator[type[Any]]:
    yield owner
    for child in owner.__subclasses__():
        yield from _every(child)


OVERRIDDEN = {("ChannelScreen", "F")}
"""Keys of the view that a screen uses for itself on purpose: the failed tasks of its channel."""


def test_no_screen_or_list_uses_a_key_of_a_command_or_of_the_view() -> None:
    used = {key: binding.id for binding in app_bindings() for key in binding.key.split(",")}
    for owner in (*_every(FrameScreen), *_every(CellGrid), *_every(TailView), PayloadTree):
        seen: set[str] = set()
        for binding in Binding.make_bindings(owner.__dict__.get("BINDINGS", ())):
            assert binding.key not in seen, (owner, binding)
            seen.add(binding.key)
            if binding.key in used and (owner.__name__, binding.key) not in OVERRIDDEN:
                assert binding.id == used[binding.key], (owner, binding)


def test_this_file_covers_every_command() -> None:
    known = {*ON_MAIN, *ON_FAILS, *ASKED_FOR, "detach", "exit"}
    assert known == {c.name for c in COMMANDS if c.key}


async def test_each_key_sends_its_command(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "right")
        for name, values in ON_MAIN.items():
            backend.asked.clear()
            await press(pilot, find(name).key)
            if find(name).dangerous:
                assert isinstance(pilot.app.screen, ConfirmScreen), name
                await press(pilot, "right", "enter")
            assert backend.asked == [(name, values)]
            assert isinstance(pilot.app.screen, MainScreen), name


async def test_each_fail_key_acts_on_the_selected_fail(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "down")
        for name, values in ON_FAILS.items():
            backend.asked.clear()
            await press(pilot, find(name).key)
            if find(name).dangerous:
                await press(pilot, "right", "enter")
            assert backend.asked == [(name, values)]


async def test_a_dangerous_command_asks_first_and_enter_cancels(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        for command in COMMANDS:
            if not (command.dangerous and command.key) or command.scope == "task":
                continue
            await press(pilot, command.key)
            focused = pilot.app.focused
            assert isinstance(focused, Button), command.name
            assert focused.id == "cancel", command.name
            await press(pilot, "enter")
            assert not isinstance(pilot.app.screen, ConfirmScreen | LeaveScreen), command.name
        assert backend.asked == []


async def test_the_question_names_exactly_the_targets(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "t")
        assert "stop_one 0?" in screen_text(pilot)
        assert "Device0 (running, node-0:4000, runs 1 task)" in screen_text(pilot)
        await press(pilot, "escape", "T")
        assert "all 5 devices (2 running, 1 paused, 2 offline)" in screen_text(pilot)
        await press(pilot, "escape", "minus")
        assert "Device4 (offline)" in screen_text(pilot)
        await press(pilot, "escape", "R")
        assert "3 failed tasks of all channels" in screen_text(pilot)


async def test_a_command_keeps_the_selection_from_when_the_key_was_pressed(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "right", "t")
        backend.change(devices=(device(7), device(8)))
        await poll(pilot)
        await press(pilot, "right", "enter")
        assert backend.asked == [("stop_one", (1,))]


async def test_a_capacity_is_asked_for_and_validated(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "m")
        assert isinstance(pilot.app.screen, PromptScreen)
        assert "TaskChannel0 (18/20 waiting)" in screen_text(pilot)
        await press(pilot, "0", "enter")
        assert "N must be 1 or more" in screen_text(pilot)
        await press(pilot, "backspace", "5", "0", "enter")
        assert backend.asked == [("reset_max_task", (50, 0))]


async def test_channels_are_asked_for_with_the_present_ones_filled_in(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=(device(0, channels=None), device(1, channels=(2, 0))))
    async with opened() as pilot:
        await press(pilot, "i")
        assert isinstance(pilot.app.screen, PromptScreen)
        assert pilot.app.screen.query_one(Input).value == "all"
        assert "Device0 (running, node-0:4000, runs 1 task)" in screen_text(pilot)
        await press(pilot, *"zero", "enter")
        assert "channels are numbers such as 0 or 0,2, or all, not 'zero'" in screen_text(pilot)
        await press(pilot, "escape", "right", "i")
        assert pilot.app.screen.query_one(Input).value == "2,0"
        await press(pilot, "end", *", 1", "enter")
        assert backend.asked == [("assign", (1, "2,0,1"))]
        assert "assign 1 2,0,1: done as asked" in screen_text(pilot)


async def test_nothing_is_filled_in_for_a_device_that_never_had_an_agent(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "end", "i")
        assert pilot.app.screen.query_one(Input).value == ""
        assert "Device4 (offline)" in screen_text(pilot)


async def test_a_capacity_without_a_selected_channel_may_name_one(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=(device(0, channels=None),))
    for words, values in (("50", (50,)), ("50 1", (50, 1))):
        backend.asked.clear()
        async with opened() as pilot:
            await press(pilot, "enter", "m")
            assert pilot.app.screen.query_one(Input).placeholder == "N [C]"
            await press(pilot, *words, "enter")
            assert backend.asked == [("reset_max_task", values)]


async def test_a_rate_is_asked_for_and_checked(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "l", *"ten", "enter")
        assert "a rate is a number of tasks per s, min or h" in screen_text(pilot)
        await press(pilot, "ctrl+u", *"90/min", "enter")
        await press(pilot, "l", *"off", "enter")
        assert backend.asked == [("reset_rate", ("90/min", 0)), ("reset_rate", ("off", 0))]


async def test_a_fail_key_without_a_selected_fail_asks_for_it(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "r")
        assert isinstance(pilot.app.screen, PromptScreen)
        await press(pilot, *"1 r1-77", "enter")
        assert backend.asked == [("reload_one_fail_task", (1, "r1-77"))]


async def test_editing_offers_the_payload_and_reports_mistakes(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "e")
        assert isinstance(pilot.app.screen, EditScreen)
        assert "bad_0.py" in screen_text(pilot)
        await press(pilot, "x", "f2")
        assert "not valid JSON" in screen_text(pilot)
        await press(pilot, "f7", *"[1e+3, -2]", "f2")
        assert backend.asked == [("edit_fail_task", (0, "r1-000000", [1000.0, -2]))]


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
async def test_leaving_asks_and_enter_stays(key: str, opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, key)
        assert isinstance(pilot.app.screen, LeaveScreen)
        await press(pilot, "ctrl+q", "enter")
        assert isinstance(pilot.app.screen, MainScreen)
        assert pilot.app.is_running
        assert backend.asked == []


async def test_detach_leaves_only_the_view(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await pilot.press("q", "right", "enter")
        await pilot.pause()
    assert pilot.app.return_value == "detach"
    assert backend.asked == []


async def test_the_detach_key_leaves_at_once(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await pilot.press("ctrl+d")
        await pilot.pause()
    assert pilot.app.return_value == "detach"
    assert backend.asked == []


async def test_exit_ends_the_view_once_the_server_agreed(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "q", "right", "right", "enter")
    assert pilot.app.return_value == "exit"
    assert backend.asked == [("exit", ())]


async def test_a_refused_exit_leaves_the_view_open(opened: Opened, backend: FakeBackend) -> None:
    backend.outcome = Outcome("an agent does not answer", ok=False)
    async with opened() as pilot:
        await press(pilot, "q", "right", "right", "enter")
        assert pilot.app.is_running
        assert "an agent does not answer" in screen_text(pilot)
    assert pilot.app.return_value is None


async def test_ctrl_c_does_not_kill(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "ctrl+c")
        assert pilot.app.is_running


async def test_a_read_only_view_sends_nothing(opened: Opened, backend: FakeBackend) -> None:
    backend.read_only = True
    async with opened() as pilot:
        await press(pilot, "P")
        assert "read-only" in screen_text(pilot)
        await press(pilot, "q")
        assert not pilot.app.screen.query("#exit")
        assert backend.asked == []


async def test_an_outcome_is_shown_and_an_error_notifies(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "p")
        assert "… pause_one 0: done as asked" in screen_text(pilot)
        backend.refusal = RuntimeError("boom")
        await press(pilot, "s")
        assert "✗ start_one 0: boom (RuntimeError)" in screen_text(pilot)
        assert [n.severity for n in pilot.app._notifications] == ["error"]


async def test_the_fail_counts_offer_the_fails_screen(opened: Opened, backend: FakeBackend) -> None:
    backend.outcome = Outcome("TaskChannel0: 3 failed")
    async with opened() as pilot:
        await press(pilot, "f")
        assert "TaskChannel0: 3 failed  (F shows them)" in screen_text(pilot)


async def test_commands_that_change_something_run_in_the_order_of_their_keys(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await pilot.press("p", "s", "P", "S")
        for _ in range(4):
            await settle(pilot)
        assert [name for name, _ in backend.asked] == ["pause_one", "start_one", "pause_all", "start_all"]
