"""The ETA: known if the number of tasks is known, from a rate that does not jump."""

from __future__ import annotations

import pytest

from mutitask_tui.dashboard.formats import about
from mutitask_tui.dashboard.model.eta import channel_eta, whole_eta
from mutitask_tui.dashboard.model.trend import Trend
from tests.dashboard.conftest import Opened, poll, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, snapshot


def trend_of(*rates: float) -> Trend:
    """Return a trend with these rates of TaskChannel0, one every two seconds until now."""
    trend = Trend()
    for age, rate in enumerate(reversed(rates)):
        trend.add(
            snapshot(now_ms=NOW_MS - (len(rates) - 1) * 2000 + age * 2000, channels=(channel(0, rate=rate),))
        )
    return trend


def test_the_eta_divides_the_open_tasks_by_the_steady_rate() -> None:
    total = 12_345 + 22 + 12_000
    eta = channel_eta(channel(0, total=total), trend_of(10.0, 10.0, 10.0), NOW_MS)
    assert eta is not None
    assert eta.seconds == pytest.approx(12_022 / 10)
    assert (eta.text, eta.share_text) == ("done in 20 min", "50%")
    assert eta.at_text == "at 14:33"


def test_one_slow_snapshot_hardly_changes_the_eta() -> None:
    steady = channel_eta(channel(0, total=100_000), trend_of(*[100.0] * 20), NOW_MS)
    slowed = channel_eta(channel(0, total=100_000), trend_of(0.0, *[100.0] * 19), NOW_MS)
    assert steady is not None and steady.seconds is not None
    assert slowed is not None and slowed.seconds is not None
    assert slowed.seconds / steady.seconds < 1.1


def test_an_exhausted_generator_needs_no_total() -> None:
    eta = channel_eta(channel(0, exhausted=True), trend_of(11.0), NOW_MS)
    assert eta is not None
    assert eta.seconds == pytest.approx(22 / 11)


def test_failed_and_deleted_tasks_count_as_settled_and_a_small_total_grows() -> None:
    eta = channel_eta(channel(0, total=5, failed=10, deleted=5), trend_of(11.0), NOW_MS)
    assert eta is not None
    assert eta.seconds == pytest.approx(2.0)
    assert eta.share < 1


@pytest.mark.parametrize("unknown", [{}, {"exhausted": True, "waiting": 0, "claimed": 0}])
def test_there_is_no_eta_if_the_total_is_unknown_or_all_is_settled(unknown: dict[str, int]) -> None:
    assert channel_eta(channel(0, **unknown), trend_of(5.0), NOW_MS) is None


def test_there_is_no_time_while_no_task_is_settled() -> None:
    eta = channel_eta(channel(0, total=100_000), trend_of(0.0), NOW_MS)
    assert eta is not None
    assert (eta.seconds, eta.text, eta.share_text) == (None, "", "12%")


def test_the_slowest_channel_sets_the_eta_and_an_unknown_one_hides_it() -> None:
    trend = Trend()
    both = (channel(0, rate=100.0, total=13_367), channel(1, rate=1.0, total=12_667))
    trend.add(snapshot(channels=both))
    eta = whole_eta(snapshot(channels=both), trend)
    assert eta is not None
    assert eta.seconds == pytest.approx(322.0)
    assert whole_eta(snapshot(channels=(both[0], channel(1))), trend) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (3500, "58 min"), (7440, "2h 04m")]
)
def test_a_future_duration_is_rounded(seconds: float, text: str) -> None:
    assert about(seconds) == text


async def test_the_screen_shows_the_eta_and_the_age_of_the_oldest_task(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(channels=(channel(0, total=1_000_000, oldest_s=75.0),))
    async with opened(size=(80, 24)) as pilot:
        await poll(pilot)
        text = screen_text(pilot)
        assert "1% done in 13 min" in text.splitlines()[0]
        assert "oldest 1m 15s" in text
        await pilot.resize_terminal(200, 60)
        await pilot.pause()
        assert "done in 13 min, at 14:26" in screen_text(pilot)
