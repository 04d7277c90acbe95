"""The device grid, the channels and the event log: cursor, scrolling, updates."""

from __future__ import annotations

import time

import pytest

from mutitask_tui.dashboard.model.device_order import DeviceRow
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.widgets.channel_list import ChannelList
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import FakeBackend, channel, device, event


async def test_the_cursor_stays_on_its_device_when_rows_change(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await press(pilot, "right", "right")
        assert grid.cursor == 2
        backend.change(devices=tuple(device(n) for n in (9, 8, 7, 2, 1)))
        await poll(pilot)
        assert grid.cursor == 2
        assert grid.selected is not None
        assert grid.selected.id == 2
        backend.change(devices=tuple(device(n) for n in (9, 8, 7)))
        await poll(pilot)
        assert grid.cursor == 7
        backend.change(devices=())
        await poll(pilot)
        assert grid.cursor is None
        assert grid.selected is None
        await press(pilot, "down", "up", "enter", "pagedown", "home", "end")
        backend.change(devices=(device(3),))
        await poll(pilot)
        assert grid.cursor == 3


async def test_a_click_selects_and_a_double_click_opens(opened: Opened) -> None:
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        await pilot.click(grid, offset=(grid.cell_width + 5, 2))
        await pilot.pause()
        assert grid.cursor == 1
        await pilot.click(grid, offset=(5, 2), times=2)
        await pilot.pause()
        assert isinstance(pilot.app.screen, DeviceScreen)


async def test_a_desired_state_that_is_not_reached_is_shown(opened: Opened) -> None:
    async with opened() as pilot:
        assert "‖ paused → running" in screen_text(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_thousand_devices_scroll(size: tuple[int, int], opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=tuple(device(n) for n in range(1000)))
    async with opened(size=size) as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        assert grid.cell_height == 1
        await press(pilot, "end")
        assert grid.cursor == 999
        assert "Device999" in screen_text(pilot)
        await press(pilot, "g", "pageup", "pagedown")
        assert grid.cell_height == 3
        assert "Device999" in screen_text(pilot)
        await press(pilot, "home")
        assert "Device0 " in screen_text(pilot)


async def test_all_changed_rows_are_redrawn_a_few_at_a_time(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=tuple(device(n, done=1) for n in range(1000)))
    async with opened(size=(200, 60)) as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        drawn: list[set[int]] = []
        redraw = grid._redraw
        grid._redraw = lambda rows: (drawn.append(rows), redraw(rows))[1]  # type: ignore[method-assign]
        backend.change(devices=tuple(device(n, done=7_777) for n in range(1000)))
        await poll(pilot)
        rows_in_sight = grid.scrollable_content_region.height // grid.row_height
        while sum(map(len, drawn)) < rows_in_sight:
            await pilot.pause()
        assert max(map(len, drawn)) <= rows_in_sight / 3
        await pilot.pause()
        text = screen_text(pilot)
        assert text.count("7,777") == rows_in_sight * grid.columns
        await press(pilot, "end")
        assert "Device999" in screen_text(pilot)
        assert screen_text(pilot).count("7,777") >= (rows_in_sight - 1) * grid.columns


async def test_a_thousand_changed_devices_are_drawn_within_100_ms(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=tuple(device(n) for n in range(1000)))
    async with opened(size=(200, 60)) as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        height = grid.scrollable_content_region.height
        durations = []
        for turn in range(10):
            changed = [DeviceRow(device(n, done=turn * 1000 + n)) for n in range(1000)]
            started = time.process_time()
            grid.show(changed)
            for y in range(height):
                grid.render_line(y)
            durations.append(time.process_time() - started)
        assert min(durations) < 0.1


async def test_channels_show_overfill_unbalanced_counters_and_why_they_halted(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(
        channels=(
            channel(0, waiting=27),
            channel(1, allotted=5),
            channel(2, halted="item 17 cannot be packed: a function"),
            channel(3, exhausted=True),
        ),
        devices=tuple(device(n, channel=n) for n in range(4)),
    )
    async with opened(size=(80, 40)) as pilot:
        text = screen_text(pilot)
        assert "27/20" in text
        assert "✗ NOT BALANCED" in text
        assert "✗ halted: item 17 cannot" in text
        assert "■ exhausted" in text


async def test_each_channel_shows_how_many_devices_serve_it(opened: Opened, backend: FakeBackend) -> None:
    devices = (device(0, channels=None), device(1, channels=(2, 0)), device(2, "offline", channels=None))
    backend.change(devices=devices, channels=tuple(channel(n) for n in range(3)))
    async with opened() as pilot:
        lines = [line for line in screen_text(pilot).splitlines() if "claimed" in line]
        assert [line.partition("devices ")[2][:1] for line in lines] == ["2", "1", "2"]


async def test_many_channels_scroll_and_open(opened: Opened, backend: FakeBackend) -> None:
    backend.change(channels=tuple(channel(n) for n in range(25)), devices=(device(0, channels=None),))
    async with opened(size=(80, 24)) as pilot:
        await press(pilot, "shift+tab")
        channels = pilot.app.screen.query_one(ChannelList)
        assert channels.has_focus
        await press(pilot, "end")
        assert channels.cursor == 24
        assert "TaskChannel24" in screen_text(pilot)
        assert "Device0" in screen_text(pilot)
        await press(pilot, "c")
        assert backend.asked == [("pause_channel", (24,))]
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ChannelScreen)
        assert "counters      ✓ balanced" in screen_text(pilot)


async def test_failures_are_highlighted_only_while_they_grow(opened: Opened, backend: FakeBackend) -> None:
    backend.change(channels=(channel(0, failed=3),))
    async with opened() as pilot:
        assert "failed 3 +" not in screen_text(pilot)
        backend.change(channels=(channel(0, failed=5),))
        await poll(pilot)
        assert "failed 5 +2" in screen_text(pilot)


async def test_the_log_appends_only_new_events_and_follows_the_end(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(events=tuple(event(n) for n in range(50)))
    async with opened() as pilot:
        log = pilot.app.screen.query_one(EventLog)
        assert "something happened 49" in screen_text(pilot)
        backend.change(events=tuple(event(n) for n in range(20, 60)))
        await poll(pilot)
        assert [line.id for line in log.lines] == [event(n).id for n in range(60)]
        assert "something happened 59" in screen_text(pilot)


async def test_the_log_keeps_its_scroll_position(opened: Opened, backend: FakeBackend) -> None:
    backend.change(events=tuple(event(n) for n in range(50)))
    async with opened() as pilot:
        log = pilot.app.screen.query_one(EventLog)
        log.focus()
        await press(pilot, "home")
        backend.change(events=tuple(event(n) for n in range(20, 60)))
        await poll(pilot)
        assert log.scroll_offset.y == 0
        assert "something happened 0" in screen_text(pilot)


async def test_the_device_screen_follows_its_device_and_its_keys_act_on_it(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "right", "enter")
        assert "node-1:4001" in screen_text(pilot)
        assert "3 tasks failed for good" in screen_text(pilot)
        backend.change(devices=(device(0), device(1, host="moved")))
        await poll(pilot)
        assert "moved:4001" in screen_text(pilot)
        await press(pilot, "p")
        assert backend.asked == [("pause_one", (1,))]
        backend.change(devices=(device(0),))
        await poll(pilot)
        assert "Device1 is no longer in the grid" in screen_text(pilot)
        await press(pilot, "escape")
        assert pilot.app.screen.query(DeviceGrid)


async def test_the_layout_is_correct_after_a_resize(opened: Opened) -> None:
    async with opened(size=(200, 60)) as pilot:
        await pilot.resize_terminal(80, 24)
        # Lists whose size changes request a second layout.
        while not all(
            word in screen_text(pilot) for word in ("TaskChannel1", "Device4", "Events", "results 12 ")
        ):
            await pilot.pause()
        assert max(len(line) for line in screen_text(pilot).splitlines()) <= 80
