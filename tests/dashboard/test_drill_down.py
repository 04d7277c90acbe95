"""The screens of one device and one channel: their details are read only while the screen is open."""

from __future__ import annotations

import pytest

from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import AgentLog, DeviceScreen
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.tail_view import PlainLines
from tests.dashboard.conftest import NEVER, Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, device, waiting_task
from worker_agent.protocol.errors import RedisUnavailable
from worker_agent.protocol.served_channels import Served

EVERY_S = PeekingScreen.EVERY_S
"""The value outside of tests."""


async def test_the_device_screen_shows_all_facts(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        backend.change(
            now_ms=NOW_MS + 4000,
            devices=(device(0), device(1, done=1041, errors=4, running=2, concurrency=3)),
        )
        await poll(pilot)
        await press(pilot, "right", "enter")
        text = screen_text(pilot)
        for part in (
            "node-1:4001",
            "0.1.0, Python 3.11.7",
            "2 of 3 at a time",
            "for 0.4s",
            "module_1.py",
            "10/s",
            "4  +1 in 1 min",
            "running, failing",
            "13:13:20 UTC",
            "3 tasks failed for good",
            "line 29 of the log",
        ):
            assert part in text, part


@pytest.mark.parametrize(
    ("served", "text", "selected"),
    [
        ((0, 2), "serves        TaskChannel0, TaskChannel2", "task #0 · Device0"),
        ((2,), "serves        TaskChannel2", "task #0 · Device0 · TaskChannel2"),
        (None, "serves        all channels", "task #0 · Device0"),
    ],
)
async def test_the_device_screen_shows_the_served_channels_and_selects_only_a_single_one(
    opened: Opened, backend: FakeBackend, served: Served, text: str, selected: str
) -> None:
    backend.change(
        devices=(device(0, channels=served),), channels=(channel(0), channel(1), channel(2, waiting=5))
    )
    async with opened() as pilot:
        await press(pilot, "enter")
        assert text in screen_text(pilot)
        assert screen_text(pilot).splitlines()[-2].strip() == selected
        await press(pilot, "c")
        asked = isinstance(pilot.app.screen, PromptScreen)
        assert (asked, backend.asked) == (
            (False, [("pause_channel", (2,))]) if served == (2,) else (True, [])
        )


async def test_the_only_channel_is_selected_also_if_a_device_serves_all(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=(device(0, channels=None),), channels=(channel(0),))
    async with opened() as pilot:
        await press(pilot, "enter", "c")
        assert backend.asked == [("pause_channel", (0,))]


async def test_a_device_that_never_had_an_agent_serves_no_channel_yet(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "end", "enter")
        assert "serves        no channel yet" in screen_text(pilot)


async def test_the_channel_screen_names_the_devices_that_serve_it(
    opened: Opened, backend: FakeBackend
) -> None:
    offline = device(20, "offline", channels=None)
    async with opened() as pilot:
        await press(pilot, "shift+tab", "enter")
        for count, text in (
            (0, "no device"),
            (1, "1 device: Device0"),
            (3, "3 devices: Device0, Device1, Device2"),
        ):
            backend.change(devices=(*(device(n, channels=(1, 0)) for n in range(count)), offline))
            await poll(pilot)
            assert f"served by     {text}  " in screen_text(pilot)


async def test_the_log_is_read_only_while_the_screen_is_open(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        assert "device_log" not in backend.reads
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, DeviceScreen)
        backend.log = (*backend.log[5:], "2026-11-24 03:01:00Z WARNING it is late")
        await poll(pilot)
        assert "WARNING it is late" in screen_text(pilot)
        await press(pilot, "escape")
        read = backend.reads.count("device_log")
        await poll(pilot)
        assert backend.reads.count("device_log") == read


async def test_details_are_read_at_most_once_a_second(
    opened: Opened, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EVERY_S == 1.0
    monkeypatch.setattr(PeekingScreen, "EVERY_S", NEVER)
    async with opened() as pilot:
        await press(pilot, "enter")
        for _ in range(3):
            await poll(pilot)
        assert backend.reads.count("device_log") == 1
        monkeypatch.setattr(PeekingScreen, "EVERY_S", 0.0)
        await poll(pilot)
        assert backend.reads.count("device_log") == 2


async def test_the_filter_applies_to_a_devices_events_and_log(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "enter", "slash", *"line 7")
        assert pilot.app.screen.query_one(AgentLog).shown == (
            backend.log[7],
            *backend.log[17:18],
            backend.log[27],
        )
        assert len(pilot.app.screen.query_one(EventLog).shown) == 0
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, DeviceScreen)
        assert len(pilot.app.screen.query_one(AgentLog).shown) == 30
        await press(pilot, "escape")
        assert not isinstance(pilot.app.screen, DeviceScreen)


async def test_the_channel_screen_shows_all_facts(opened: Opened, backend: FakeBackend) -> None:
    backend.change(channels=(channel(0, total=1_000_000, oldest_s=3.2, results=12), channel(1)))
    backend.waiting = (waiting_task(7, attempt=2, crashes=1), *backend.waiting)
    async with opened() as pilot:
        await press(pilot, "shift+tab", "enter")
        text = screen_text(pilot)
        for part in (
            "in 13 min at 14:26, 1%",
            "1,000,000",
            "18, the oldest for 3.2s",
            "counters      ✓ balanced",
            "Next of 18 waiting tasks",
            "#7",
            "run 3  1 crashed  40 B",
            "module_3.py",
            "Last of 12 waiting results",
            "{'lines': 3}",
        ):
            assert part in text, part


async def test_the_lists_are_read_only_while_the_channel_is_open_and_keep_their_scroll_position(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened(size=(80, 24)) as pilot:
        await press(pilot, "shift+tab", "enter")
        assert isinstance(pilot.app.screen, ChannelScreen)
        waiting = pilot.app.screen.query_one("#waiting", PlainLines)
        await press(pilot, "down", "down")
        backend.waiting = backend.waiting[1:]
        await poll(pilot)
        assert waiting.scroll_offset.y == 2
        assert waiting.shown[0].number == 1
        await press(pilot, "escape")
        read = backend.reads.count("waiting_tasks")
        await poll(pilot)
        assert backend.reads.count("waiting_tasks") == read


async def test_a_failed_read_is_reported_once(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        backend.error = ValueError("odd")
        await press(pilot, "enter")
        assert "cannot read: odd" in screen_text(pilot)
        backend.error = RedisUnavailable("gone")
        await poll(pilot)
        assert "Redis does not answer since" in screen_text(pilot)
        backend.error = None
        await poll(pilot)
        assert "line 29 of the log" in screen_text(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_all_named_channels_of_a_device_are_shown_at_every_width(
    opened: Opened, backend: FakeBackend, size: tuple[int, int]
) -> None:
    backend.change(
        channels=tuple(channel(n) for n in range(30)),
        devices=(
            device(0, channels=tuple(range(10, 30, 2))),
            device(1, channels=None),
            device(2, channels=(7,)),
        ),
    )
    async with opened(size=size) as pilot:
        await press(pilot, "enter")
        text = " ".join(screen_text(pilot).replace("│", " ").split())
        names = ", ".join(f"TaskChannel{n}" for n in range(10, 26, 2))
        assert f"serves {names} and 2 more" in text
        for key, served in (("right", "serves all channels"), ("right", "serves TaskChannel7 ")):
            await press(pilot, "escape", key, "enter")
            assert served in " ".join(screen_text(pilot).split())
