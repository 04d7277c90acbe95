"""Asked, then obeyed, and how long that took; or who has not obeyed and why."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from mutitask_tui.dashboard.model.acknowledgements import Obedience
from mutitask_tui.dashboard.model.detections import KEPT_MS
from mutitask_tui.server.commands.registry import CommandError, Outcome, find
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, device, snapshot


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.at


def asked(name: str, *targets: tuple[Any, ...], now: Any = None) -> tuple[Obedience, Clock]:
    """Someone asked for this just now, and it was carried out."""
    clock = Clock()
    obedience = Obedience(clock)
    obedience.ask("the act", find(name), targets or ((),), now or snapshot())
    obedience.confirm("the act")
    return obedience, clock


def paused(number: int, **changes: Any) -> Any:
    """A device that was asked to pause and did."""
    return device(number, "paused", **changes)


def test_the_device_obeys_and_the_time_is_told() -> None:
    obedience, clock = asked("pause_one", (0,))
    clock.at += 0.4
    assert obedience.look(snapshot(devices=(device(0, desired="paused"),))) == []
    assert obedience.urgent
    clock.at += 0.4
    assert obedience.look(snapshot(devices=(paused(0),))) == [("the act: obeyed after 800 ms", "good")]
    assert not obedience.urgent
    assert obedience.look(snapshot(devices=(paused(0),))) == []


def test_a_snapshot_from_before_the_act_does_not_count() -> None:
    clock = Clock()
    obedience = Obedience(clock)
    obedience.ask("the act", find("start_one"), ((0,),), snapshot())
    assert obedience.look(snapshot()) == []
    obedience.confirm("the act")
    assert obedience.look(snapshot(devices=(device(0, desired="paused"),))) == []
    assert obedience.look(snapshot(devices=(device(0),))) != []


@pytest.mark.parametrize(
    ("late", "why"),
    [
        (device(0, "offline", desired="paused"), "it is offline"),
        (device(0, desired="paused", current_s=12.0), "it is still running its task (12s)"),
        (device(0, desired="paused", running=0, seen_s=7.0), "it was last seen 7s ago"),
    ],
)
def test_one_that_has_not_obeyed_for_five_seconds_is_named_once_with_why(late: Any, why: str) -> None:
    clock = Clock()
    obedience = Obedience(clock)
    obedience.ask("pause_one 0", find("pause_one"), ((0,),), snapshot())
    obedience.confirm("pause_one 0")
    clock.at += 4.9
    assert obedience.look(snapshot(devices=(late,))) == []
    clock.at += 0.2
    said = obedience.look(snapshot(devices=(late,)))
    assert said == [(f"Device0 has not obeyed pause_one for 5 s: {why}", "warn")]
    assert obedience.look(snapshot(devices=(late,))) == []
    clock.at += 7
    assert obedience.look(snapshot(devices=(paused(0),))) == [("pause_one 0: obeyed after 12s", "good")]


def test_many_are_counted_and_the_late_ones_named() -> None:
    now = snapshot(devices=tuple(device(n) for n in range(8)))
    obedience, clock = asked("pause_all", now=now)
    clock.at += 6
    late = tuple(device(n, desired="paused") for n in range(4, 8))
    [(text, tone)] = obedience.look(snapshot(devices=(*(paused(n) for n in range(4)), *late)))
    assert tone == "warn"
    assert text.startswith(
        "the act: 4 of 8 devices have not obeyed for 6 s: Device4 is still running its task"
    )
    assert text.endswith("and 1 more")
    clock.at += 1
    [(text, tone)] = obedience.look(snapshot(devices=tuple(paused(n) for n in range(8))))
    assert (text, tone) == ("the act: 8 devices obeyed after 7.0s", "good")


def test_pause_all_waits_for_nobody_who_was_offline() -> None:
    obedience, _ = asked("pause_all", now=snapshot(devices=(device(0, "offline"), device(1))))
    assert obedience.look(snapshot(devices=(device(0, "offline"), paused(1)))) == [
        ("the act: obeyed after 1 ms", "good")
    ]


def test_a_later_act_on_the_same_device_takes_the_place_of_the_former() -> None:
    obedience, clock = asked("pause_one", (0,))
    obedience.ask("another", find("start_one"), ((0,),), snapshot())
    obedience.confirm("another")
    assert [text for text, _ in obedience.look(snapshot(devices=(device(0),)))] == [
        "another: obeyed after 1 ms"
    ]
    clock.at += 10
    assert obedience.look(snapshot()) == []


@pytest.mark.parametrize("after", [device(0, "offline"), device(0, actor="a-new")])
def test_a_stop_is_obeyed_by_going_or_by_being_another(after: Any) -> None:
    obedience, _ = asked("stop_one", (0,))
    assert obedience.look(snapshot(devices=(device(0),))) == []
    assert len(obedience.look(snapshot(devices=(after,)))) == 1


def test_channels_and_the_server_obey_too() -> None:
    obedience, _ = asked("pause_channel", (0,))
    assert obedience.look(snapshot()) == []
    assert len(obedience.look(snapshot(channels=(channel(0, paused=True),)))) == 1
    obedience, _ = asked("pause_allot")
    now = snapshot()
    assert now.server is not None
    assert obedience.look(now) == []
    assert len(obedience.look(replace(now, server=replace(now.server, allotting=False)))) == 1


def test_a_refused_act_is_waited_for_by_nobody() -> None:
    obedience, clock = asked("pause_one", (0,))
    obedience.drop("the act")
    clock.at += 10
    assert obedience.look(snapshot()) == []


async def test_the_status_line_tells_asked_then_obeyed(opened: Opened, backend: FakeBackend) -> None:
    backend.outcome = Outcome("asked Device0 to pause")
    async with opened() as pilot:
        await press(pilot, "p")
        assert "… pause_one 0: asked Device0 to pause" in screen_text(pilot)
        backend.change(devices=(paused(0), device(1)))
        await poll(pilot)
        assert "✓ pause_one 0: obeyed after " in screen_text(pilot)


async def test_a_late_device_is_told_loudly(
    opened: Opened, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as pilot:
        await press(pilot, "end", "left", "p")
        later = time.monotonic() + 6
        monkeypatch.setattr(pilot.app.obedience, "_now", lambda: later)  # type: ignore[attr-defined]
        await poll(pilot)
        assert "Device3 has not obeyed pause_one for 6 s: it is offline" in screen_text(pilot)
        assert [n.severity for n in pilot.app._notifications] == ["warning"]


async def test_a_refusal_is_not_followed_by_a_complaint(
    opened: Opened, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.refusal = CommandError("no")
    async with opened() as pilot:
        await press(pilot, "p")
        later = time.monotonic() + 60
        monkeypatch.setattr(pilot.app.obedience, "_now", lambda: later)  # type: ignore[attr-defined]
        await poll(pilot)
        assert "has not obeyed" not in screen_text(pilot)


async def test_a_detect_shows_ms_and_who_did_not_answer_in_the_grid_for_a_while(
    opened: Opened, backend: FakeBackend
) -> None:
    answers = {"0": {"state": "running", "ms": 3.24}, "3": {"state": "offline", "ms": None}}
    backend.outcome = Outcome("2 running, 2 offline", data={"devices": answers})
    async with opened() as pilot:
        await press(pilot, "D")
        await poll(pilot)
        assert "3.2 ms" in screen_text(pilot)
        assert "no answer" in screen_text(pilot)
        backend.change(now_ms=NOW_MS + KEPT_MS + 1)
        await poll(pilot)
        assert "3.2 ms" not in screen_text(pilot)
