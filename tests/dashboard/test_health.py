"""The health in the header names the worst problem first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mutitask_tui.dashboard.model.health import assess_health
from mutitask_tui.dashboard.model.trend import GROWTH_MS, Trend
from mutitask_tui.server.snapshot import BodyCounts, ClientCount
from tests.dashboard.fake_backend import NOW_MS, channel, device, snapshot

RUNNING = (device(0), device(1, channel=1))


def trend_with(new_fails: int) -> Trend:
    """Return a trend with `new_fails` failed tasks in the last minute."""
    trend = Trend()
    trend.add(snapshot(now_ms=NOW_MS - 1000))
    trend.add(snapshot(channels=(channel(0, failed=new_fails),)))
    return trend


@pytest.mark.parametrize(
    ("changes", "new_fails", "says"),
    [
        ({"channels": (channel(0, allotted=1, halted="x"),)}, 9, "COUNTERS NOT BALANCED in TaskChannel0"),
        ({"channels": (channel(0, halted="item 7"),)}, 9, "feed halted in TaskChannel0"),
        ({"server": None}, 9, "no server"),
        ({"devices": (device(0, "offline", seen_s=None),)}, 0, "no device is there"),
        ({"devices": (*RUNNING, device(2, "offline"))}, 9, "1 device offline"),
        (
            {"devices": (*RUNNING, device(2, "offline")), "clients": ClientCount(9_000, 10_000)},
            9,
            "Redis has 9,000 of at most 10,000 clients: raise maxclients",
        ),
        (
            {"devices": (*RUNNING, device(2, "offline")), "bodies": BodyCounts(5, 0, 1_200, NOW_MS)},
            9,
            "bodies missing in Redis: 1,200",
        ),
        ({"devices": RUNNING}, 9, "9 failed in the last minute"),
        ({"devices": (device(0),), "channels": (channel(0), channel(1))}, 9, "no device serves TaskChannel1"),
        (
            {
                "devices": (device(0, channels=(0, 2)),),
                "channels": (channel(0, failed=9), channel(1), channel(2)),
            },
            0,
            "no device serves TaskChannel1",
        ),
        ({"devices": (device(0, channels=(1, 0)),), "channels": (channel(0), channel(1))}, 0, "going well"),
        ({"devices": (device(0, channels=None),), "channels": (channel(0), channel(1))}, 0, "going well"),
        (
            {"devices": RUNNING, "channels": (channel(0, done=0, errors=52),)},
            0,
            "52 runs failed in TaskChannel0, none done",
        ),
        (
            {"devices": (device(0, task_s=0.2), device(1, current_s=289.0)), "channels": (channel(0),)},
            0,
            "Device1 runs one task for 4m 49s: '/usr/lib/python3.1…",
        ),
        ({"devices": (device(0, "paused"),), "channels": (channel(0),)}, 0, "every device is paused"),
        ({"devices": RUNNING, "channels": (channel(0, paused=True),)}, 0, "TaskChannel0 paused"),
        ({"devices": RUNNING}, 0, "going well"),
        (
            {"channels": (channel(0, exhausted=True, waiting=0, claimed=0, failed=2),), "server": None},
            0,
            "finished, 2 failed",
        ),
    ],
)
def test_the_worst_problem_comes_first(changes: dict[str, Any], new_fails: int, says: str) -> None:
    assert says in assess_health(snapshot(**changes), trend_with(new_fails)).text


def test_paused_allotting_is_shown() -> None:
    now = snapshot(devices=RUNNING)
    assert now.server is not None
    paused = replace(now, server=replace(now.server, allotting=False))
    assert "allotting is paused" in assess_health(paused, Trend()).text


def test_failures_count_as_new_for_one_minute() -> None:
    trend = Trend()
    for age, failed in ((2 * GROWTH_MS, 0), (GROWTH_MS, 5), (0, 8)):
        trend.add(snapshot(now_ms=NOW_MS - age, channels=(channel(0, failed=failed),)))
    assert (trend.new_fails(), trend.new_fails(0), trend.new_fails(7)) == (3, 3, 0)


def test_a_reload_is_not_negative_and_a_new_run_starts_at_zero() -> None:
    trend = Trend()
    trend.add(snapshot(channels=(channel(0, failed=8),)))
    trend.add(snapshot(channels=(channel(0, failed=0),)))
    assert trend.new_fails() == 0
    trend.add(snapshot(run="r2", channels=(channel(0, failed=50),)))
    assert trend.new_fails() == 0
    assert len(trend.points(0)) == 1


def test_more_errors_than_done_tasks_are_shown() -> None:
    trend = Trend()
    for age, errors, done in ((5000, 100, 500), (0, 140, 503)):
        now = snapshot(now_ms=NOW_MS - age, devices=RUNNING, channels=(channel(0, errors=errors, done=done),))
        trend.add(now)
    assert assess_health(now, trend).text == "! 40 runs failed in the last minute, 3 done"
    assert trend.new_runs(0) == (40, 3)


def test_a_stuck_run_is_compared_with_its_channel() -> None:
    def health(**changes: Any) -> str:
        return assess_health(
            snapshot(devices=(device(0, task_s=10.0), device(1, **changes), device(2, channel=1))), Trend()
        ).text

    assert "Device1 runs" in health(current_s=250.0)
    assert "going well" in health(current_s=150.0)
    # The tasks of this device take long anyway, or have a time limit.
    assert "going well" in health(current_s=250.0, task_s=20.0)
    assert "going well" in health(current_s=250.0, timeout_s=300.0)
    assert "Device1 runs" in health(current_s=400.0, timeout_s=300.0)
    assert "going well" in health(current_s=250.0, channel=1)


def test_a_channel_is_not_unserved_just_after_the_server_started() -> None:
    now = snapshot(devices=(device(0),))
    assert now.server is not None
    young = replace(now, server=replace(now.server, since_ms=NOW_MS - 1000))
    assert "going well" in assess_health(young, Trend()).text
