"""Finding devices among many: sort order, faults, hidden devices, filters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from textual.pilot import Pilot

from mutitask_tui.dashboard.model.device_order import (
    SORTS,
    DeviceListOptions,
    list_devices,
)
from mutitask_tui.dashboard.model.device_trend import DeviceTrend, slow_devices
from mutitask_tui.dashboard.model.trend import GROWTH_MS
from mutitask_tui.dashboard.screens.main import MainScreen
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, device, event, snapshot
from tests.dashboard.test_help import search


def shown(pilot: Pilot[Any]) -> list[int]:
    """The devices that the grid shows, in its order."""
    return [row.id for row in pilot.app.screen.query_one(DeviceGrid).items]


def history(*moments: tuple[int, tuple[Any, ...]]) -> DeviceTrend:
    """A trend with the devices of each moment, given as an age in ms."""
    trend = DeviceTrend()
    for age, devices in moments:
        trend.add(snapshot(now_ms=NOW_MS - age, devices=devices))
    return trend


def test_the_rate_counts_the_tasks_settled_in_the_last_ten_seconds() -> None:
    trend = history(
        (30_000, (device(0, done=0),)),
        (10_000, (device(0, done=900, errors=0),)),
        (0, (device(0, done=990, errors=10),)),
    )
    assert trend.rate(0) == pytest.approx(10.0)
    assert trend.rate(7) == 0


def test_a_device_counts_as_failing_for_a_minute_after_an_error() -> None:
    trend = history((1000, (device(0, errors=3),)), (0, (device(0, errors=5),)))
    assert (trend.new_errors(0), trend.fault(device(0, errors=5))) == (2, "failing")
    trend.add(snapshot(now_ms=NOW_MS + 2 * GROWTH_MS, devices=(device(0, errors=5),)))
    trend.add(snapshot(now_ms=NOW_MS + 3 * GROWTH_MS, devices=(device(0, errors=5),)))
    assert trend.fault(device(0, errors=5)) == ""


def test_a_restarted_agent_has_no_negative_rate_or_errors() -> None:
    trend = history((1000, (device(0, done=900, errors=30),)), (0, (device(0, done=2, errors=0),)))
    assert (trend.rate(0), trend.new_errors(0)) == (0, 0)


def test_a_device_is_slow_compared_with_the_others_of_its_channel() -> None:
    others = tuple(device(n, current_s=2.0) for n in range(4))
    assert slow_devices((*others, device(9, current_s=30.0))) == {9}
    assert slow_devices((*others, device(9, current_s=9.0))) == set()
    assert (
        slow_devices((device(1, current_s=0.1), device(2, current_s=0.1), device(9, current_s=4.0))) == set()
    )
    assert slow_devices((*others, device(9, current_s=500.0, channel=1))) == set()
    assert slow_devices((*others, device(9, "offline", current_s=500.0, running=1))) == set()


def test_a_device_is_slow_compared_with_those_that_serve_the_same_channels() -> None:
    for served, same in ((None, None), ((0, 2), (2, 0))):
        others = tuple(device(n, channels=served, current_s=2.0) for n in range(4))
        assert slow_devices((*others, device(9, channels=same, current_s=30.0))) == {9}
        assert slow_devices((*others, device(9, channels=(0,), current_s=30.0))) == set()


def test_the_channel_column_sorts_by_all_served_channels() -> None:
    served = {0: (2,), 1: None, 2: (2, 0), 3: (), 4: (0,), 5: (1, 0)}
    devices = tuple(device(number, channels=channels) for number, channels in served.items())
    rows = list_devices(devices, DeviceListOptions(sort="channel"), DeviceTrend(), {}).rows
    assert [row.id for row in rows] == [1, 4, 5, 2, 0, 3]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("taskchannel0", [0, 1]),
        ("taskchannel2", [0, 1, 2]),
        ("!taskchannel0", [2, 3]),
        ("all channels", [1]),
        ("taskchannel7", []),
    ],
)
def test_the_filter_finds_devices_by_each_channel_that_they_serve(words: str, found: list[int]) -> None:
    served = {0: (0, 2), 1: None, 2: (2,), 3: ()}
    devices = tuple(device(number, channels=channels) for number, channels in served.items())
    rows = list_devices(devices, DeviceListOptions(words), DeviceTrend(), {}, channels=3).rows
    assert [row.id for row in rows] == found


async def test_the_filter_line_finds_a_device_that_serves_all_channels(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=(device(0), device(1, channels=None), device(2, channels=(1, 0))))
    async with opened() as pilot:
        await press(pilot, "slash", *"taskchannel1", "enter")
        assert shown(pilot) == [1, 2]


async def test_a_dense_line_shows_the_served_channels_when_they_sort(
    opened: Opened, backend: FakeBackend
) -> None:
    served = (None, (0,), (2, 0), tuple(range(20)), ())
    backend.change(devices=tuple(device(n, channels=channels) for n, channels in enumerate(served)))
    async with opened() as pilot:
        await press(pilot, "g")
        pilot.app.sort_devices("channel")  # type: ignore[attr-defined]
        await poll(pilot)
        lines = [line for line in screen_text(pilot).splitlines() if " Device" in line]
        text = " ".join("\n".join(lines).split())
        for part in ("Device0 ● running ch all", "Device1 ● running ch 0", "Device2 ● running ch 2,0"):
            assert part in text
        assert "Device3 ● running 20 channels" in text


def test_every_column_sorts_and_the_key_steps_through_all_columns() -> None:
    devices = (device(1, errors=2, done=5), device(0, "offline", seen_s=None), device(2, "paused", errors=9))
    visited, sort = [], "device"
    for _ in SORTS:
        visited.append(sort)
        rows = list_devices(devices, DeviceListOptions(sort=sort), DeviceTrend(), {}).rows
        assert {row.id for row in rows} == {0, 1, 2}
        sort = DeviceListOptions(sort=sort).next_sort
    assert sort == "device"
    assert {name.removeprefix("-") for name in visited} == set(SORTS)
    by_failed = list_devices(devices, DeviceListOptions(sort="-failed"), DeviceTrend(), {}).rows
    assert [row.id for row in by_failed] == [2, 1, 0]
    assert DeviceListOptions(sort=DeviceListOptions(sort="-failed").reversed_sort).reversed_sort == "-failed"


async def test_the_sort_order_is_shown_and_kept_and_the_cursor_stays(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=tuple(device(n, errors=n * 3 % 7) for n in range(5)))
    async with opened() as pilot:
        await press(pilot, "right", "o", "o", "o")
        assert shown(pilot) == [2, 4, 1, 3, 0]
        assert "by errors ↓" in screen_text(pilot)
        assert pilot.app.screen.query_one(DeviceGrid).cursor == 1
        assert pilot.app.preferences.config.sort == "-errors"  # type: ignore[attr-defined]
        await press(pilot, "O")
        assert shown(pilot) == [0, 3, 1, 4, 2]
        backend.change(devices=tuple(device(n, errors=9 - n) for n in range(5)))
        await poll(pilot)
        assert shown(pilot) == [4, 3, 2, 1, 0]
        assert pilot.app.screen.query_one(DeviceGrid).cursor == 1


async def test_the_palette_sorts_by_any_column(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=tuple(device(n, done=(7 * n) % 5) for n in range(5)))
    async with opened() as pilot:
        await press(pilot, "ctrl+p")
        await search(pilot, "Sort devices by done")
        assert shown(pilot) == [2, 4, 1, 3, 0]
        assert pilot.app.preferences.config.sort == "-done"  # type: ignore[attr-defined]


async def test_n_moves_through_the_faults_and_wraps_around(opened: Opened, backend: FakeBackend) -> None:
    others = tuple(device(n, current_s=1.0) for n in range(4))
    backend.change(devices=(*others, device(4, current_s=60.0), device(5, "offline"), device(6, errors=1)))
    async with opened() as pilot:
        grid = pilot.app.screen.query_one(DeviceGrid)
        backend.change(devices=(*backend.now.devices[:-1], device(6, errors=2)), now_ms=NOW_MS + 1000)
        await poll(pilot)
        visited = []
        for _ in range(4):
            await press(pilot, "n")
            visited.append(grid.cursor)
        assert visited == [4, 5, 6, 4]
        assert "Device4 is slow" in screen_text(pilot)
        await press(pilot, "N")
        assert grid.cursor == 6
        assert "Device6 is failing" in screen_text(pilot)


async def test_n_reports_that_no_device_has_a_fault(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=(device(0), device(1)))
    async with opened() as pilot:
        await press(pilot, "n")
        assert "no visible device is offline, slow or failing" in screen_text(pilot)
        assert pilot.app.screen.query_one(DeviceGrid).cursor == 0


async def test_faults_only_hides_and_shows_the_other_devices(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "exclamation_mark")
        assert shown(pilot) == [3]
        assert "1 faults only" in screen_text(pilot)
        await press(pilot, "T")
        assert "4 of them hidden" in screen_text(pilot)
        await press(pilot, "escape", "exclamation_mark")
        assert len(shown(pilot)) == 5
        await press(pilot, "exclamation_mark", "escape")
        assert len(shown(pilot)) == 5


async def test_hidden_offline_devices_are_counted_and_can_be_purged(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "h")
        assert shown(pilot) == [0, 1, 2]
        assert "✗ 2 offline (2 hidden)" in screen_text(pilot)
        assert pilot.app.preferences.config.layout.hide_offline  # type: ignore[attr-defined]
        await press(pilot, "z")
        assert "2 devices (offline and hidden, 2 offline, 2 of them hidden): Device3, Device4" in " ".join(
            screen_text(pilot).split()
        ).replace("│ ", "").replace(" │", "")
        await press(pilot, "right", "enter")
        assert backend.asked == [("purge_device*", ((3,), (4,)))]
        await press(pilot, "h")
        assert len(shown(pilot)) == 5


async def test_a_device_that_goes_offline_is_hidden_with_the_others(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "h", "right")
        backend.change(devices=(device(0), device(1, "offline"), device(2)))
        await poll(pilot)
        assert shown(pilot) == [0, 2]
        assert "(1 hidden)" in screen_text(pilot)


async def test_the_filter_applies_to_the_panel_with_the_focus(opened: Opened, backend: FakeBackend) -> None:
    backend.change(events=tuple(event(n, f"item {n}" + " odd" * (n % 2)) for n in range(30)))
    async with opened() as pilot:
        log = pilot.app.screen.query_one(EventLog)
        log.focus()
        await press(pilot, "slash", *"odd")
        assert [line.text for line in log.shown] == [f"item {n} odd" for n in range(1, 30, 2)]
        await press(pilot, "enter")
        assert log.has_focus
        assert "15 match /odd" in screen_text(pilot)
        assert len(shown(pilot)) == 5
        backend.change(events=(*backend.now.events, event(31, "item 31 odd"), event(42, "else")))
        await poll(pilot)
        assert log.shown[-1].text == "item 31 odd"
        await press(pilot, "escape")
        assert len(log.shown) == 32


async def test_keys_of_the_main_screen_do_nothing_on_other_screens(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "o", "exclamation_mark", "h", "n")
        assert not isinstance(pilot.app.screen, MainScreen)
        assert pilot.app.screen_stack[0].options == DeviceListOptions()  # type: ignore[attr-defined]


def test_a_thousand_devices_are_listed_within_50_ms() -> None:
    trend, now = DeviceTrend(), snapshot(devices=tuple(device(n, errors=n % 9) for n in range(1000)))
    durations = []
    for turn in range(5):
        started = time.process_time()
        trend.add(snapshot(now_ms=NOW_MS + turn * 2500, devices=now.devices))
        list_devices(now.devices, DeviceListOptions("node-1 !paused", "-rate"), trend, {})
        durations.append(time.process_time() - started)
    assert min(durations) < 0.05
