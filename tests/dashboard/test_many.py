"""Commands on several devices: marks stay with their ids, and hidden targets need confirmation."""

from __future__ import annotations

from textual.widgets import Input

from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.server.commands.registry import CommandError, Outcome
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import FakeBackend, device


async def test_a_command_acts_on_marked_devices_in_one_call(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "right", "space")
        assert "2 devices marked" in screen_text(pilot)
        for key, name in (("p", "pause_one"), ("s", "start_one"), ("d", "detect_one"), ("z", "purge_device")):
            backend.asked.clear()
            await press(pilot, key)
            assert backend.asked == [(f"{name}*", ((0,), (2,)))]


async def test_marked_devices_are_assigned_in_one_call(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "right", "space", "i")
        assert isinstance(pilot.app.screen, PromptScreen)
        assert "2 devices (1 running, 1 paused): Device0, Device2" in screen_text(pilot)
        assert pilot.app.screen.query_one(Input).value == ""
        await press(pilot, *"0,1", "enter")
        assert backend.asked == [("assign*", ((0, "0,1"), (2, "0,1")))]
        assert "assign 0,1 on 2 devices: " in screen_text(pilot)


async def test_the_common_channels_of_marked_devices_are_filled_in(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=tuple(device(n, channels=(1, 0)) for n in range(3)))
    async with opened() as pilot:
        await press(pilot, "asterisk", "i")
        assert pilot.app.screen.query_one(Input).value == "1,0"
        await press(pilot, "escape")
        assert backend.asked == []


async def test_hidden_marked_devices_need_confirmation_to_be_assigned(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "asterisk", "slash", *"node-1", "enter", "i", *"all", "enter")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "assign all on 5 devices?" in screen_text(pilot)
        await press(pilot, "right", "enter")
        assert backend.asked == [("assign*", tuple((n, "all") for n in (1, 0, 2, 3, 4)))]


async def test_marks_follow_their_devices_and_disappear_with_them(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "space")
        backend.change(devices=tuple(device(n) for n in (7, 1, 9, 0)))
        await poll(pilot)
        await press(pilot, "p")
        assert backend.asked == [("pause_one*", ((1,), (0,)))]
        backend.change(devices=(device(0), device(9)))
        await poll(pilot)
        assert "1 device marked" in screen_text(pilot)


async def test_escape_clears_the_marks_before_the_filter(opened: Opened) -> None:
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await press(pilot, "slash", *"node", "enter", "space", "escape")
        assert not grid.marked
        assert "match /node" in screen_text(pilot)
        await press(pilot, "escape")
        assert "match /node" not in screen_text(pilot)


async def test_an_asterisk_marks_and_unmarks_all_shown_devices(opened: Opened) -> None:
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await press(pilot, "slash", *"running !node-2", "enter", "asterisk")
        assert grid.marked == {0, 1}
        await press(pilot, "asterisk")
        assert grid.marked == set()


async def test_hidden_marked_devices_need_confirmation(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "asterisk", "slash", *"node-1", "enter")
        assert "5 devices marked (4 hidden)" in screen_text(pilot)
        await press(pilot, "p")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "4 of them hidden" in screen_text(pilot)
        assert backend.asked == []
        await press(pilot, "right", "enter")
        assert backend.asked == [("pause_one*", ((1,), (0,), (2,), (3,), (4,)))]


async def test_a_dangerous_command_on_many_names_them(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "space", "t")
        text = screen_text(pilot)
        assert "stop_one on 2 devices?" in text
        assert "2 devices (2 running): Device0, Device1" in text
        await press(pilot, "enter")
        assert backend.asked == []


async def test_the_marks_at_the_moment_of_the_key_count(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "space", "t")
        backend.change(devices=(device(7), device(8)))
        await poll(pilot)
        await press(pilot, "right", "enter")
        assert backend.asked == [("stop_one*", ((0,), (1,)))]


async def test_keys_for_all_and_for_channels_ignore_marks(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "P", "c")
        assert backend.asked == [("pause_all", ()), ("pause_channel", (0,))]


async def test_the_outcome_on_many_is_shown_and_a_refusal_too(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "space", "space")
        backend.many = Outcome("asked 1 device to pause", data={"asked": 2, "done": 1})
        await press(pilot, "p")
        assert "pause_one on 2 devices: asked 1 device to pause" in screen_text(pilot)
        backend.refusal = CommandError("none of these devices exists any more")
        await press(pilot, "p")
        assert "✗ pause_one on 2 devices: none of these" in screen_text(pilot)


async def test_a_read_only_view_marks_but_changes_nothing(opened: Opened, backend: FakeBackend) -> None:
    backend.read_only = True
    async with opened() as pilot:
        await press(pilot, "space", "p", "d")
        assert backend.asked == [("detect_one*", ((0,),))]
        assert "pause_one: this view is read-only" in screen_text(pilot)
