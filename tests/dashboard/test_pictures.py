"""How the screens look, at the three sizes and in both themes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.dashboard.model.device_trend import DeviceTrend
from mutitask_tui.dashboard.widgets.banner import Trouble
from mutitask_tui.server.commands.registry import Outcome
from mutitask_tui.server.snapshot import FailedRun
from tests.dashboard.conftest import NEVER, settle
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, detail, device, fail, snapshot

SIZES = ((80, 24), (120, 40), (200, 60))
FAILS = (
    *(fail(n) for n in range(30)),
    *(fail(n, error_type="ReadTimeout", error="no answer in 30 s", stage="timeout") for n in range(30, 40)),
)


def size_id(size: object) -> str:
    """A size as part of a file's name."""
    return "{}x{}".format(*size) if isinstance(size, tuple) else str(size)


SnapCompare = Callable[..., bool]


def backend_with_fails() -> FakeBackend:
    """Return a backend with failed tasks and channels in several states."""
    channels = (
        channel(0, total=1_000_000, oldest_s=0.4),
        channel(1, waiting=27, claimed=2, done=4321, failed=40, results=12, rate=87.0, oldest_s=12.0),
    )
    return FakeBackend(snapshot(channels=channels), FAILS)


def steps(*keys: str, theme: str = "", trouble: Trouble | None = None) -> Callable[[Pilot[Any]], Any]:
    """Feed a minute of snapshots, then press keys."""

    async def run(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, DashboardApp)
        await settle(pilot)
        backend = app.backend
        assert isinstance(backend, FakeBackend)
        now = backend.now
        app.device_trend = DeviceTrend()
        for tick in range(30, -1, -1):
            pace = 0.6 + (tick * 7 % 11) / 20
            rates = tuple(replace(c, rate=c.rate * pace) for c in now.channels)
            devices = tuple(
                replace(d, done=max(0, d.done - tick * (2 + d.id % 3)), errors=max(0, d.errors - tick // 9))
                for d in now.devices
            )
            past = replace(now, now_ms=NOW_MS - tick * 2000, channels=rates, devices=devices)
            app.trend.add(past)
            app.device_trend.add(past)
        app.snapshot = now
        if theme:
            app.theme = theme
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        if trouble is not None:
            app.trouble = trouble
        await settle(pilot)

    return run


def app_of(backend: FakeBackend | None = None) -> DashboardApp:
    """The dashboard on a backend."""
    return DashboardApp(backend or backend_with_fails(), interval=NEVER)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_main(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps(), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_fails(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("F", "down"), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_help(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("question_mark"), terminal_size=size)


def test_confirm(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("t"), terminal_size=(80, 24))


def test_leave(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("q"), terminal_size=(80, 24))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_device(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("right", "enter"), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_channel(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("shift+tab", "enter"), terminal_size=size)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_failed(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    backend = backend_with_fails()
    payload = {
        "url": "https://example.org/items/17",
        "headers": {"Accept": "text/html", "User-Agent": "mutitask"},
        "pages": list(range(40)),
        "note": "first line\nsecond line",
    }
    late = FailedRun(NOW_MS - 9000, 2, "timeout", "TimeLimit", "30 s are over", "")
    runs = (late, *detail(FAILS[0]).failed_runs[1:])
    backend.details[FAILS[0].id] = detail(FAILS[0], payload=payload, failed_runs=runs, size=312)
    assert snap_compare(app_of(backend), run_before=steps("F", "enter"), terminal_size=size)


@pytest.mark.parametrize("theme", ["mutitask", "mutitask-light"])
def test_groups(theme: str, snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("F", "G", theme=theme), terminal_size=(120, 40))


def test_fails_marked_and_filtered(snap_compare: SnapCompare) -> None:
    keys = steps("F", "down", "space", "space", "slash", *"syntax", "enter")
    assert snap_compare(app_of(), run_before=keys, terminal_size=(80, 24))


def test_edit(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps("F", "e"), terminal_size=(80, 24))


def busy_link() -> FakeBackend:
    """Twenty devices, of which one is slow, one fails, three are offline."""
    states = {7: "offline", 11: "offline", 12: "paused", 19: "offline"}
    devices = tuple(
        device(
            n, states.get(n, "running"), errors=5 if n == 4 else 0, current_s=42.0 if n == 9 else 0.4 + n / 10
        )
        for n in range(20)
    )
    return FakeBackend(
        snapshot(devices=devices, channels=(channel(0, total=100_000, failed=5, oldest_s=0.4),))
    )


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_marked_and_sorted(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    keys = steps("o", "o", "space", "down", "space", "h", "D")
    backend = busy_link()
    answers = {str(n): {"ms": 1.5 + n, "state": "running"} for n in range(0, 20, 3)}
    backend.outcome = Outcome(
        "20 asked", data={"devices": {**answers, "4": {"ms": None, "state": "offline"}}}
    )
    assert snap_compare(app_of(backend), run_before=keys, terminal_size=size)


@pytest.mark.parametrize("theme", ["mutitask", "mutitask-light"])
def test_faults(theme: str, snap_compare: SnapCompare) -> None:
    keys = steps("exclamation_mark", "n", theme=theme)
    assert snap_compare(app_of(busy_link()), run_before=keys, terminal_size=(120, 40))


def test_light_device(snap_compare: SnapCompare) -> None:
    keys = steps("enter", theme="mutitask-light")
    assert snap_compare(app_of(), run_before=keys, terminal_size=(120, 40))


LIGHT = {
    "channel": ("shift+tab", "enter"),
    "failed": ("F", "enter"),
    "help": ("question_mark",),
    "chart": ("H",),
    "join": ("j",),
    "confirm": ("t",),
    "edit": ("F", "e"),
}


@pytest.mark.parametrize("screen", LIGHT)
def test_light_screens(screen: str, snap_compare: SnapCompare) -> None:
    keys = steps(*LIGHT[screen], theme="mutitask-light")
    assert snap_compare(app_of(), run_before=keys, terminal_size=(120, 40))


def test_light(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_of(), run_before=steps(theme="mutitask-light"), terminal_size=(120, 40))


def test_light_fails(snap_compare: SnapCompare) -> None:
    keys = steps("F", theme="mutitask-light")
    assert snap_compare(app_of(), run_before=keys, terminal_size=(120, 40))


def test_command_line(snap_compare: SnapCompare) -> None:
    keys = steps("colon", *"pause_", "tab", "tab")
    assert snap_compare(app_of(), run_before=keys, terminal_size=(80, 24))


def test_redis_away(snap_compare: SnapCompare) -> None:
    trouble = Trouble(
        "Redis does not answer", NOW_MS, NOW_MS + 12_000, "localhost:6379 refused the connection"
    )
    assert snap_compare(app_of(), run_before=steps(trouble=trouble), terminal_size=(80, 24))


def test_a_thousand_devices(snap_compare: SnapCompare) -> None:
    states = ("running", "running", "running", "paused", "offline")
    devices = tuple(device(n, states[n % 5], errors=n % 7) for n in range(1000))
    backend = FakeBackend(snapshot(devices=devices, channels=tuple(channel(n) for n in range(6))))
    assert snap_compare(app_of(backend), run_before=steps("pagedown"), terminal_size=(200, 60))


def test_no_colour(snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app_of(), run_before=steps(), terminal_size=(80, 24))


def hundred_channels() -> FakeBackend:
    """A hundred channels, of which some have faults."""
    changes: dict[int, dict[str, Any]] = {
        13: {"failed": 112, "errors": 300},
        42: {"paused": True},
        57: {"failed": 3},
        66: {"exhausted": True},
        67: {"exhausted": True, "waiting": 0, "claimed": 0},
        70: {"rate_limit": "10/s", "rate": 10.0},
        88: {"halted": "item 4711 cannot be packed: a function"},
        95: {"allotted": 5},
    }
    channels = tuple(
        channel(n, **{"waiting": n * 7 % 24, "rate": n * 13 % 900, **changes.get(n, {})}) for n in range(100)
    )
    devices = tuple(device(n, "offline" if n == 7 else "running", channels=None) for n in range(12))
    return FakeBackend(snapshot(channels=channels, devices=devices))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_a_hundred_channels(size: tuple[int, int], snap_compare: SnapCompare) -> None:
    keys = steps("shift+tab", "right")
    assert snap_compare(app_of(hundred_channels()), run_before=keys, terminal_size=size)


def test_light_hundred_channels(snap_compare: SnapCompare) -> None:
    keys = steps("shift+tab", "exclamation_mark", theme="mutitask-light")
    assert snap_compare(app_of(hundred_channels()), run_before=keys, terminal_size=(120, 40))
