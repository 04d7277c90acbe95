"""A hundred channels: dense lines, faults first, filter, sort, mouse."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual.pilot import Pilot

from mutitask_tui.dashboard.model.channel_order import (
    SORTS,
    ChannelListOptions,
    ChannelRow,
    channel_rows,
    in_order,
    list_channels,
)
from mutitask_tui.dashboard.model.states import State
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.widgets.channel_line import dense_line
from mutitask_tui.dashboard.widgets.channel_list import ChannelList
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import FakeBackend, channel, device, snapshot
from tests.dashboard.test_help import search

FAULTY: dict[int, dict[str, Any]] = {
    70: {"paused": True},
    80: {"failed": 12},
    90: {"halted": "item 17 cannot be packed: a function"},
    95: {"allotted": 5},
}


@pytest.fixture
def hundred(backend: FakeBackend) -> FakeBackend:
    """A backend with 100 channels, of which four have a fault, and a device for all of them."""
    channels = tuple(channel(n, rate=float(n), **FAULTY.get(n, {})) for n in range(100))
    backend.change(channels=channels, devices=(device(0, channels=None), device(1, "offline")))
    return backend


def shown(pilot: Pilot[Any]) -> list[int]:
    """The channels that the list shows, in its order."""
    return [row.id for row in pilot.app.screen.query_one(ChannelList).items]


@pytest.mark.parametrize(("size", "visible"), [((80, 24), 16), ((120, 40), 56), ((200, 60), 100)])
async def test_many_channels_take_one_line_each_and_those_with_faults_are_first(
    opened: Opened, hundred: FakeBackend, size: tuple[int, int], visible: int
) -> None:
    async with opened(size=size) as pilot:
        assert shown(pilot)[:6] == [95, 90, 80, 70, 0, 1]
        text = screen_text(pilot)
        assert text.count(" TaskChannel") >= visible
        for part in ("✗ NOT BALANCED", "✗ halted", "✗12", "‖ paused", "Device0", "Channels 100"):
            assert part in text
        assert "✗ 1 not balanced  ✗ 1 halted  ✗ 1 with failed tasks" in text
        if size[0] > 80:
            assert "faults first" in text


@pytest.mark.parametrize(("size", "fitting"), [((80, 24), 4), ((120, 40), 7), ((200, 60), 22)])
async def test_channels_that_fit_keep_two_lines_and_their_order(
    opened: Opened, backend: FakeBackend, size: tuple[int, int], fitting: int
) -> None:
    channels = tuple(channel(n, failed=5 if n == 2 else 0) for n in range(fitting + 1))
    backend.change(channels=channels[:-1], devices=(device(0, channels=None),))
    async with opened(size=size) as pilot:
        text = screen_text(pilot)
        assert shown(pilot) == list(range(fitting))
        assert text.count("claimed 4") == fitting
        assert f"Channels {fitting}" not in text
        backend.change(channels=channels)
        await poll(pilot)
        assert shown(pilot)[0] == 2
        assert "claimed 4" not in screen_text(pilot)


async def test_a_larger_terminal_gives_the_channels_more_room(opened: Opened, backend: FakeBackend) -> None:
    backend.change(channels=tuple(channel(n) for n in range(12)), devices=(device(0, channels=None),))
    async with opened(size=(120, 30)) as pilot:
        channels = pilot.app.screen.query_one(ChannelList)
        assert channels.cell_height == 1
        await pilot.resize_terminal(120, 90)
        await poll(pilot)
        assert channels.cell_height == 2
        await pilot.resize_terminal(120, 24)
        await poll(pilot)
        assert channels.cell_height == 1


async def test_commands_keys_and_the_mouse_act_on_the_channel_in_both_looks(
    opened: Opened, hundred: FakeBackend
) -> None:
    async with opened(size=(200, 60)) as pilot:
        channels = pilot.app.screen.query_one(ChannelList)
        await press(pilot, "shift+tab", "right", "right", "down", "c")
        under_cursor = channels.cursor
        assert hundred.asked == [("pause_channel", (under_cursor,))] and channels.columns == 5
        await pilot.click(channels, offset=(channels.cell_width * 3 + 4, 2))
        await pilot.pause()
        assert channels.cursor == shown(pilot)[5 + 3]
        hundred.asked.clear()
        await press(pilot, "colon", *"pause_channel 42", "enter")
        await press(pilot, "g", "home", "C")
        assert channels.cell_height == 2
        assert hundred.asked == [("pause_channel", (42,)), ("start_channel", (0,))]
        assert pilot.app.preferences.config.layout.channel_density == "roomy"  # type: ignore[attr-defined]
        assert pilot.app.preferences.config.layout.density == "auto"  # type: ignore[attr-defined]
        await press(pilot, "g")
        assert channels.cell_height == 1
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ChannelScreen)


async def test_the_filter_finds_channels_by_number_state_and_fault(
    opened: Opened, hundred: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "shift+tab", "slash", *"taskchannel9 !halted", "enter")
        assert shown(pilot) == [95, 9, 91, 92, 93, 94, 96, 97, 98, 99]
        assert "11 match /taskchannel9" not in screen_text(pilot)
        assert "10 match /taskchannel9 !halted" in screen_text(pilot)
        assert pilot.app.screen.query_one(ChannelList).has_focus
        assert len(pilot.app.screen.query_one(DeviceGrid).items) == 2
        await press(pilot, "escape", "slash", *"cannot be packed", "enter")
        assert shown(pilot) == [90]
        await press(pilot, "tab", "escape")
        assert len(shown(pilot)) == 100


async def test_faults_only_and_next_fault_act_on_the_focused_channels(
    opened: Opened, hundred: FakeBackend
) -> None:
    async with opened() as pilot:
        channels = pilot.app.screen.query_one(ChannelList)
        await press(pilot, "shift+tab", "exclamation_mark")
        assert shown(pilot) == [70, 80, 90, 95]
        assert "4 faults only" in screen_text(pilot)
        await press(pilot, "exclamation_mark", "home")
        visited = []
        for _ in range(4):
            await press(pilot, "n")
            visited.append(channels.cursor)
        assert visited == [90, 80, 70, 95]
        assert "TaskChannel95 is not balanced" in screen_text(pilot)
        await press(pilot, "N")
        assert "TaskChannel70 is paused" in screen_text(pilot)
        await press(pilot, "tab", "n")
        assert "Device1 is offline" in screen_text(pilot)


async def test_the_order_of_the_channels_is_shown_and_kept_and_the_cursor_stays(
    opened: Opened, hundred: FakeBackend
) -> None:
    async with opened() as pilot:
        channels = pilot.app.screen.query_one(ChannelList)
        await press(pilot, "shift+tab", "right", "o", "o", "o", "o")
        for _ in range(3):
            await poll(pilot)
        assert shown(pilot)[:3] == [99, 98, 97]
        assert channels.cursor == 90
        assert "by rate ↓" in screen_text(pilot)
        assert pilot.app.preferences.config.layout.channel_sort == "-rate"  # type: ignore[attr-defined]
        assert pilot.app.preferences.config.sort == "device"  # type: ignore[attr-defined]
        await press(pilot, "O")
        assert shown(pilot)[:3] == [0, 1, 2]
        await press(pilot, "ctrl+p")
        await search(pilot, "Sort channels by failed")
        assert shown(pilot)[0] == 80
        assert "channels by failed ↓" in screen_text(pilot)


def test_every_column_sorts_the_channels_and_the_key_steps_through_all_columns() -> None:
    now = snapshot(
        channels=tuple(channel(n, failed=n % 3, oldest_s=None if n % 2 else 4.0) for n in range(6))
    )
    rows = list_channels(now, Trend(), ChannelListOptions()).rows
    options, visited = ChannelListOptions(), []
    for _ in SORTS:
        visited.append(options.column)
        assert {row.id for row in in_order(rows, options, dense=True)} == set(range(6))
        options = ChannelListOptions(sort=options.next_sort)
    assert set(visited) == set(SORTS) and options.sort == "auto"
    reverse = ChannelListOptions(sort=options.reversed_sort)
    assert [row.id for row in in_order(rows, reverse, dense=True)] == [5, 4, 3, 2, 1, 0]
    assert ChannelListOptions(sort=reverse.reversed_sort).column == "channel"


@pytest.mark.parametrize("column", SORTS)
def test_a_dense_line_names_the_channel_and_what_is_wrong_at_every_width(column: str) -> None:
    views = (
        channel(123, failed=1_234_567, oldest_s=4000.0),
        channel(7, halted="an item [red]\x1b[2J that cannot be packed"),
        channel(8, allotted=1),
        channel(9, paused=True, waiting=1_000_000),
    )
    rows = channel_rows(snapshot(channels=views, devices=(device(0, channels=None),)), Trend())
    for width in range(27, 150):
        for row, mark in zip(rows, ("✗1.23M", "✗ halted", "✗ NOT BAL", "‖ paused"), strict=True):
            text = "".join(part for part, _ in dense_line(row, width, column))
            assert f"TaskChannel{row.id} " in text and mark in text and "\x1b" not in text
            assert len(text) == width


def test_a_note_takes_the_place_of_the_state_of_a_channel_that_is_fed() -> None:
    row = ChannelRow(channel(1), State("▶", "feeding", "good"), 9.0, (), 0, note="limited 10/s")
    for width in (30, 38, 100):
        assert "▶ limited 10/s" in "".join(part for part, _ in dense_line(row, width, "auto"))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "▶ limited 10/s"),
        ({"exhausted": True}, "■ limited 10/s"),
        ({"exhausted": True, "waiting": 0, "claimed": 0}, "✓ finished"),
        ({"paused": True}, "‖ paused"),
        ({"halted": "item 3 is a function"}, "✗ halted"),
    ],
)
def test_a_rate_limit_is_shown_while_it_can_hold_tasks_back(changes: dict[str, Any], state: str) -> None:
    view = channel(0, rate_limit="10/s", **changes)
    (row,) = channel_rows(snapshot(channels=(view,), devices=(device(0, channels=None),)), Trend())
    assert row.state_text == state


async def test_a_channels_own_screen_shows_its_rate_limit(opened: Opened, backend: FakeBackend) -> None:
    backend.change(channels=(channel(0, rate_limit="90/min"), channel(1)))
    async with opened() as pilot:
        assert "▶ limited 90/min" in screen_text(pilot)
        await press(pilot, "shift+tab", "enter")
        assert isinstance(pilot.app.screen, ChannelScreen)
        assert "at most 90/min" in screen_text(pilot)


def test_a_hundred_channels_are_listed_and_drawn_within_20_ms() -> None:
    trend, now = Trend(), snapshot(channels=tuple(channel(n, failed=n % 9) for n in range(100)))
    for turn in range(240):
        trend.add(snapshot(now_ms=now.now_ms - turn * 2000, channels=now.channels))
    durations = []
    for _ in range(5):
        started = time.process_time()
        listed = list_channels(now, trend, ChannelListOptions())
        for row in in_order(listed.rows, ChannelListOptions(), dense=True):
            dense_line(row, 38, "auto")
        durations.append(time.process_time() - started)
    assert min(durations) < 0.02
