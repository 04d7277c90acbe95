"""The charts of the last hour: their values, their movement, their pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.dashboard.model.history import HOUR_MS, History, Series
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.chart import ChartScreen
from mutitask_tui.dashboard.widgets.chart import Chart, plot, round_up, time_axis
from mutitask_tui.server.snapshot import Sample
from mutitask_tui.settings.config_file import Config, Layout, Loaded
from mutitask_tui.settings.preferences import Preferences
from tests.dashboard.conftest import NEVER, Opened, poll, press, screen_text, settle
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, snapshot
from tests.dashboard.test_pictures import SIZES, SnapCompare, size_id

STEP_MS = 5000


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of the pictures."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def samples(rate: float = 100, minutes: int = 60, *, fails: float = 0.0, until: int = NOW_MS) -> list[Sample]:
    """Return one sample every five seconds at a steady rate, up to `until`."""
    stored = []
    for number in range(minutes * 12 + 1):
        at = until - (minutes * 12 - number) * STEP_MS
        seconds = number * 5
        stored.append(Sample(at, 18, 20, 4, round(rate * seconds), round(fails * seconds), 10**9))
    return stored


def waves(base: int, seed: int) -> list[Sample]:
    """Return an hour of samples with a slow wave, a gap and a burst of failures."""
    stored, done, failed = [], 10_000, 3
    for number in range(721):
        at = NOW_MS - (720 - number) * STEP_MS
        wave = 0.55 + 0.35 * ((number * (3 + seed)) % 240 / 240) + 0.1 * ((number * 7 + seed) % 11) / 11
        done += round(base * wave * 5)
        failed += (2 + number % 3) if 480 <= number < 560 else (number % 60 == 0)
        waiting = round(20 * (0.3 + 0.7 * ((number * 5 + seed * 40) % 300) / 300))
        if not 260 <= number < 300:
            stored.append(Sample(at, waiting, 20, 4, done, failed, done + failed + waiting + 4))
    return stored


class HistoryBackend(FakeBackend):
    """A backend with an hour of stored samples."""

    def __init__(self, *stored: list[Sample], **given: Any) -> None:
        channels = tuple(
            channel(
                n, waiting=k[-1].waiting, claimed=4, done=k[-1].done, failed=k[-1].failed, rate=1000.0
            )
            for n, k in enumerate(stored)
        )  # fmt: skip
        super().__init__(snapshot(channels=channels, **given))
        self.stored = stored
        self.history_reads = 0

    def history(self) -> tuple[tuple[Sample, ...], ...]:
        self.history_reads += 1
        return tuple(tuple(k) for k in self.stored)


def charts_of(history: History, channel_id: int | None = 0, minutes: int = 15, steps: int = 180) -> Any:
    return history.charts(channel_id, minutes, steps)


def seeded(*stored: list[Sample]) -> History:
    """Return the history of a dashboard that has just attached."""
    backend = HistoryBackend(*stored)
    history = History()
    history.add(backend.now)
    history.seed(backend.history())
    return history


async def press_and_layout(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys, and wait for the new layout."""
    await press(pilot, *keys)
    await pilot.pause()


@pytest.mark.parametrize("minutes", [5, 15, 60])
@pytest.mark.parametrize("steps", [2, 37, 200, 382])
def test_a_steady_rate_is_a_level_line(minutes: int, steps: int) -> None:
    charts = charts_of(seeded(samples(100, 62, fails=0.5)), 0, minutes, steps)
    assert len(charts.rate.values) == steps
    assert all(value == pytest.approx(100.5, abs=0.6) for value in charts.rate.values)
    assert all(value == pytest.approx(30, abs=30) for value in charts.fails.values)
    assert set(charts.fill.values) == {90.0}
    assert charts.rate.last_ms >= NOW_MS > charts.rate.last_ms - charts.rate.step_ms


def test_all_channels_together_show_the_sum() -> None:
    charts = charts_of(seeded(samples(100), samples(20)), None)
    assert charts.rate.newest == pytest.approx(120, abs=0.5)
    assert charts.fill.newest == 90.0


def test_a_gap_is_blank_and_not_zero() -> None:
    with_gap = [s for s in samples(100) if not NOW_MS - 600_000 < s.at_ms < NOW_MS - 300_000]
    values = charts_of(seeded(with_gap), 0, 15, 15).rate.values
    assert [value is None for value in values].count(True) >= 4
    assert values[-1] == pytest.approx(100) and values[0] == pytest.approx(100)
    assert charts_of(seeded(samples(100, 2)), 0, 15, 15).rate.values[:12] == (None,) * 12


def test_reloaded_tasks_do_not_count_as_negative_failures() -> None:
    stored = [replace(s, failed=50 if s.at_ms < NOW_MS - 60_000 else 0) for s in samples(0)]
    charts = charts_of(seeded(stored))
    assert set(charts.fails.values) == {0.0} == set(charts.rate.values)


def test_seen_samples_continue_the_stored_ones() -> None:
    backend = HistoryBackend(samples(100))
    history = seeded(*backend.stored)
    done = backend.stored[0][-1].done
    for second in range(1, 61):
        now = replace(backend.now.channels[0], done=done + 300 * second)
        history.add(replace(backend.now, now_ms=NOW_MS + 1000 * second, channels=(now,)))
    values = charts_of(history, 0, 5, 5).rate.values
    assert values[-1] == pytest.approx(300) and values[0] == pytest.approx(100)


def test_samples_are_kept_for_an_hour() -> None:
    history = History()
    for second in range(0, 7300, 2):
        history.add(replace(snapshot(), now_ms=NOW_MS + 1000 * second))
    stored = history._samples[0]
    assert len(stored) <= 950
    assert stored[-1].at_ms - stored[0].at_ms <= HOUR_MS + 60_000
    assert all(b.at_ms - a.at_ms >= STEP_MS - 2000 for a, b in pairwise(stored[:-1]))


def test_a_new_run_discards_the_old_samples() -> None:
    history = seeded(samples(100))
    history.add(replace(snapshot(channels=(channel(0),)), run="r2"))
    assert charts_of(history).rate.values[:-1] == (None,) * 179
    history.seed(())  # A late answer that belongs to other channels.
    assert history.channels == 1


def test_the_curve_moves_by_whole_steps() -> None:
    history = seeded(waves(400, 1))
    before = charts_of(history, 0, 5, 100).rate
    backend = HistoryBackend(waves(400, 1))
    history.add(replace(backend.now, now_ms=NOW_MS + 1000))
    after = charts_of(history, 0, 5, 100).rate
    moved = (after.first_ms - before.first_ms) // before.step_ms
    assert after.values[: 98 - moved] == before.values[moved:98]


def test_the_area_below_a_curve_is_filled() -> None:
    lines = plot((0.0, 1.0, 2.0, 3.0, 4.0, 8.0, None, None), 8.0, 4, 2)
    assert lines == ["⠀⠀⢸⠀", "⣀⣴⣿⠀"]
    lines = plot((None, 0.0, 4.0, 8.0), 8.0, 2, 2)
    assert lines == ["⠀⢸", "⢀⣿"]


@given(
    st.lists(st.none() | st.floats(0, 1e12), max_size=400), st.floats(0.1, 1e12), st.integers(1, 200),
    st.integers(1, 40),
)  # fmt: skip
def test_a_curve_always_fits(values: list[float | None], top: float, cells: int, rows: int) -> None:
    lines = plot(tuple(values), top, cells, rows)
    assert [len(line) for line in lines] == [cells] * rows


@given(st.floats(1e-6, 1e12))
def test_the_scale_ends_at_the_next_round_number(value: float) -> None:
    top = round_up(value)
    assert value * 0.999 <= top <= value * 1.6
    assert float(f"{top:.1e}") == pytest.approx(top)


@pytest.mark.parametrize(
    ("zone", "shown"), [("UTC", "14:00"), ("Asia/Kolkata", "19:30"), ("America/New_York", "10:00")]
)
def test_times_are_local_and_round(zone: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    axis = time_axis(charts_of(seeded(samples(1)), 0, 15, 200).rate, 100)
    assert len(axis) == 100
    assert shown in axis, axis
    assert all(int(label[-2:]) % 2 == 0 for label in axis.replace("─", " ").split())


def test_an_empty_series_draws_an_empty_axis() -> None:
    assert time_axis(Series(0, 1, ()), 10) == "─" * 10
    assert plot((), 1.0, 3, 1) == ["⠀⠀⠀"]


async def test_drawing_a_chart_is_fast(opened: Opened) -> None:
    """The goal is 3 ms for the whole screen. The test allows ten times as much for a slow machine."""
    backend = HistoryBackend(waves(1200, 0), waves(90, 2))
    async with opened(backend, (120, 40)) as pilot:
        await press_and_layout(pilot, "H", "right", "left")
        chart = pilot.app.screen.query_one("#rate", Chart)
        best = min(_timed(chart) for _ in range(20))
        assert best < 0.03


def _timed(chart: Chart) -> float:
    chart._lines = None
    started = time.perf_counter()
    for y in range(chart.size.height):
        chart.render_line(y)
    return time.perf_counter() - started


async def test_a_dashboard_that_attaches_late_shows_the_charts_at_once(opened: Opened) -> None:
    backend = HistoryBackend(samples(100), samples(20))
    async with opened(backend) as pilot:
        assert backend.history_reads == 1
        assert "▁" in screen_text(pilot) or "█" in screen_text(pilot)
        await press_and_layout(pilot, "H")
        text = screen_text(pilot)
        assert "All channels" in text and "no samples yet" not in text
        assert "120/s" in text and "90%" in text
        assert "15 minutes (UTC)" in text
        assert text.count("⣿") > 200


async def test_the_history_is_read_again_after_a_lost_connection_and_for_a_new_run(opened: Opened) -> None:
    backend = HistoryBackend(samples(100))
    async with opened(backend) as pilot:
        await poll(pilot)
        assert backend.history_reads == 1
        backend.error = OSError("gone")
        await poll(pilot)
        backend.error = None
        await poll(pilot)
        assert backend.history_reads == 2
        backend.change(run="r2")
        await poll(pilot)
        assert backend.history_reads == 3


async def test_arrows_choose_the_channel_and_the_time_span(opened: Opened) -> None:
    backend = HistoryBackend(samples(100), samples(20))
    async with opened(backend) as pilot:
        await press_and_layout(pilot, "H", "right")
        assert "TaskChannel0, 15 minutes" in screen_text(pilot)
        await press_and_layout(pilot, "right")
        assert "TaskChannel1, 15 minutes (UTC)   Rate  20/s" in screen_text(pilot)
        await press_and_layout(pilot, "right")
        assert "All channels" in screen_text(pilot)
        await press_and_layout(pilot, "left", "down")
        assert "TaskChannel1" in screen_text(pilot) and "60 minutes" in screen_text(pilot)
        await press_and_layout(pilot, "down", "up", "up", "up")
        assert "2 minutes" in screen_text(pilot)


async def test_the_charts_open_with_the_time_span_of_the_run(opened: Opened) -> None:
    backend = HistoryBackend(samples(100), started_ms=NOW_MS - 25_000)
    async with opened(backend) as pilot:
        await press_and_layout(pilot, "H")
        assert "All channels, 1 minute (" in screen_text(pilot)
        backend.change(started_ms=NOW_MS - 90_000)
        await poll(pilot)
        assert "All channels, 2 minutes (" in screen_text(pilot)


async def test_the_channel_keys_act_on_the_channel_of_the_chart(opened: Opened) -> None:
    backend = HistoryBackend(samples(100), samples(20))
    async with opened(backend) as pilot:
        await press_and_layout(pilot, "H", "left", "c")
        assert backend.asked == [("pause_channel", (1,))]


async def test_the_channel_screen_opens_its_chart_and_back(opened: Opened) -> None:
    backend = HistoryBackend(samples(100), samples(20))
    async with opened(backend) as pilot:
        await press_and_layout(pilot, "shift+tab", "down", "enter", "H")
        assert isinstance(pilot.app.screen, ChartScreen)
        assert "TaskChannel1, 15 minutes" in screen_text(pilot)
        await press_and_layout(pilot, "H")
        assert not isinstance(pilot.app.screen, ChartScreen)


async def test_without_a_history_the_charts_start_empty(opened: Opened) -> None:
    backend = HistoryBackend([samples(100)[-1]])
    backend.history = lambda: (_ for _ in ()).throw(OSError("no"))  # type: ignore[assignment,method-assign]
    async with opened(backend) as pilot:
        await press_and_layout(pilot, "H")
        assert "no samples yet" in screen_text(pilot)


async def test_a_hostile_history_breaks_nothing(opened: Opened) -> None:
    bad = [Sample(NOW_MS - 9000, -5, 0, 0, -10**18, 0, 0), Sample(NOW_MS - 9000, 10**18, 0, 0, 10**18, 10**18, 0),
           Sample(NOW_MS - 4000, 10**18, 1, 0, 5, 0, 0), Sample(NOW_MS, 1, 1, 1, 1, 1, 1)]  # fmt: skip
    async with opened(HistoryBackend(bad)) as pilot:
        await press_and_layout(pilot, "H", "down", "up", "up")
        assert isinstance(pilot.app.screen, ChartScreen)
        await pilot.resize_terminal(20, 8)
        await settle(pilot)
        assert isinstance(pilot.app.screen, ChartScreen)


async def test_the_time_span_is_saved(tmp_path: Any) -> None:
    loaded = Loaded(Config(layout=Layout(chart_minutes=60)), tmp_path / "config.toml", {}, exists=False)
    app = DashboardApp(HistoryBackend(samples(100)), interval=NEVER, preferences=Preferences(loaded))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press_and_layout(pilot, "H")
        assert "15 minutes" in screen_text(pilot)
        await press_and_layout(pilot, "up")
    assert "chart_minutes = 5" in loaded.path.read_text()


async def test_the_palette_finds_the_charts(opened: Opened) -> None:
    async with opened(HistoryBackend(samples(100))) as pilot:
        await press_and_layout(pilot, "ctrl+p", *"charts")
        await pilot.pause(0.3)
        await press_and_layout(pilot, "enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ChartScreen)


def test_a_trend_starts_with_the_stored_samples() -> None:
    trend = Trend()
    backend = HistoryBackend(samples(100, fails=1))
    trend.add(backend.now)
    trend.seed(backend.history())
    points = trend.points(0)
    assert len(points) >= 230 and points[10] == pytest.approx(101)
    assert trend.new_fails() == pytest.approx(60, abs=6)


def picture(*keys: str, theme: str = "") -> Any:
    async def run(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        if theme:
            pilot.app.theme = theme
        for key in ("H", *keys):
            await pilot.press(key)
            await settle(pilot)
        await pilot.pause()

    return run


@pytest.mark.parametrize("theme", ["mutitask", "mutitask-light"])
@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_charts(size: tuple[int, int], theme: str, snap_compare: SnapCompare) -> None:
    backend = HistoryBackend(waves(1200, 0), waves(90, 2))
    app = DashboardApp(backend, interval=NEVER)
    assert snap_compare(app, run_before=picture("right", "down", theme=theme), terminal_size=size)
