"""The header's sentence names the worst thing first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mutitask_tui.dashboard.trend import GROWTH_MS, Trend
from mutitask_tui.dashboard.verdict import judge
from tests.dashboard.fake_link import NOW_MS, channel, device, snapshot

RUNNING = (device(0), device(1))


@pytest.mark.parametrize(
    ("changes", "new_fails", "says"),
    [
        ({"channels": (channel(0, allotted=1, halted="x"),)}, 9, "BOOKS DO NOT BALANCE in TaskChannel0"),
        ({"channels": (channel(0, halted="item 7"),)}, 9, "feed halted in TaskChannel0"),
        ({"server": None}, 9, "no server"),
        ({"devices": (device(0, "offline", seen_s=None),)}, 0, "no device is there"),
        ({"devices": (device(0), device(1, "offline"))}, 9, "1 device offline"),
        ({"devices": RUNNING}, 9, "9 failed in the last minute"),
        ({"devices": (device(0, "paused"),)}, 0, "every device is paused"),
        ({"devices": RUNNING, "channels": (channel(0, paused=True),)}, 0, "TaskChannel0 paused"),
        ({"devices": RUNNING}, 0, "going well"),
        (
            {"channels": (channel(0, exhausted=True, waiting=0, claimed=0, failed=2),), "server": None},
            0,
            "finished, 2 failed",
        ),
    ],
)
def test_the_worst_comes_first(changes: dict[str, Any], new_fails: int, says: str) -> None:
    assert says in judge(snapshot(**changes), new_fails).text


def test_paused_allotting_is_said() -> None:
    now = snapshot(devices=RUNNING)
    assert now.server is not None
    paused = replace(now, server=replace(now.server, allotting=False))
    assert "allotting is paused" in judge(paused, 0).text


def test_failures_are_new_for_a_minute_only() -> None:
    trend = Trend()
    for age, failed in ((2 * GROWTH_MS, 0), (GROWTH_MS, 5), (0, 8)):
        trend.add(snapshot(now_ms=NOW_MS - age, channels=(channel(0, failed=failed),)))
    assert (trend.new_fails(), trend.new_fails(0), trend.new_fails(7)) == (3, 3, 0)


def test_a_reload_is_no_growth_and_a_new_run_begins_afresh() -> None:
    trend = Trend()
    trend.add(snapshot(channels=(channel(0, failed=8),)))
    trend.add(snapshot(channels=(channel(0, failed=0),)))
    assert trend.new_fails() == 0
    trend.add(snapshot(run="r2", channels=(channel(0, failed=50),)))
    assert trend.new_fails() == 0
    assert len(trend.points(0)) == 1
