"""A command is sent, then acknowledged after a while; or the screen names who is late and why."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from mutitask_tui.dashboard.model.acknowledgements import Acknowledgements
from mutitask_tui.dashboard.model.device_order import DETECTION_KEPT_MS
from mutitask_tui.server.commands.registry import CommandError, Outcome, find
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, device, snapshot


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.at


def sent(name: str, *targets: tuple[Any, ...], now: Any = None) -> tuple[Acknowledgements, Clock]:
    """A command that was sent just now and succeeded."""
    clock = Clock()
    acknowledgements = Acknowledgements(clock)
    acknowledgements.expect("the command", find(name), targets or ((),), now or snapshot())
    acknowledgements.confirm("the command")
    return acknowledgements, clock


def paused(number: int, **changes: Any) -> Any:
    """A device that paused."""
    return device(number, "paused", **changes)


def test_the_device_acknowledges_and_the_time_is_shown() -> None:
    acknowledgements, clock = sent("pause_one", (0,))
    clock.at += 0.4
    assert acknowledgements.update(snapshot(devices=(device(0, desired="paused"),))) == []
    assert acknowledgements.urgent
    clock.at += 0.4
    said = acknowledgements.update(snapshot(devices=(paused(0),)))
    assert said == [("the command: acknowledged after 800 ms", "good")]
    assert not acknowledgements.urgent
    assert acknowledgements.update(snapshot(devices=(paused(0),))) == []


def test_a_snapshot_from_before_the_command_does_not_count() -> None:
    clock = Clock()
    acknowledgements = Acknowledgements(clock)
    acknowledgements.expect("the command", find("start_one"), ((0,),), snapshot())
    assert acknowledgements.update(snapshot()) == []
    acknowledgements.confirm("the command")
    assert acknowledgements.update(snapshot(devices=(device(0, desired="paused"),))) == []
    assert acknowledgements.update(snapshot(devices=(device(0),))) != []


@pytest.mark.parametrize(
    ("late", "why"),
    [
        (device(0, "offline", desired="paused"), "it is offline"),
        (device(0, desired="paused", current_s=12.0), "it is still running its task (12s)"),
        (device(0, desired="paused", running=0, seen_s=7.0), "it was last seen 7s ago"),
    ],
)
def test_a_device_that_is_late_by_five_seconds_is_named_once_with_the_reason(late: Any, why: str) -> None:
    clock = Clock()
    acknowledgements = Acknowledgements(clock)
    acknowledgements.expect("pause_one 0", find("pause_one"), ((0,),), snapshot())
    acknowledgements.confirm("pause_one 0")
    clock.at += 4.9
    assert acknowledgements.update(snapshot(devices=(late,))) == []
    clock.at += 0.2
    messages = acknowledgements.update(snapshot(devices=(late,)))
    assert messages == [(f"Device0 has not acknowledged pause_one for 5 s: {why}", "warn")]
    assert acknowledgements.update(snapshot(devices=(late,))) == []
    clock.at += 7
    assert acknowledgements.update(snapshot(devices=(paused(0),))) == [
        ("pause_one 0: acknowledged after 12s", "good")
    ]


def test_late_devices_are_counted_and_named() -> None:
    now = snapshot(devices=tuple(device(n) for n in range(8)))
    acknowledgements, clock = sent("pause_all", now=now)
    clock.at += 6
    late = tuple(device(n, desired="paused") for n in range(4, 8))
    [(text, tone)] = acknowledgements.update(snapshot(devices=(*(paused(n) for n in range(4)), *late)))
    assert tone == "warn"
    assert text.startswith(
        "the command: 4 of 8 devices have not acknowledged it for 6 s: Device4 is still running its task"
    )
    assert text.endswith("and 1 more")
    clock.at += 1
    [(text, tone)] = acknowledgements.update(snapshot(devices=tuple(paused(n) for n in range(8))))
    assert (text, tone) == ("the command: acknowledged by 8 devices after 7.0s", "good")


def test_pause_all_does_not_wait_for_offline_devices() -> None:
    acknowledgements, _ = sent("pause_all", now=snapshot(devices=(device(0, "offline"), device(1))))
    assert acknowledgements.update(snapshot(devices=(device(0, "offline"), paused(1)))) == [
        ("the command: acknowledged after 1 ms", "good")
    ]


def test_a_later_command_on_the_same_device_replaces_the_earlier_one() -> None:
    acknowledgements, clock = sent("pause_one", (0,))
    acknowledgements.expect("another", find("start_one"), ((0,),), snapshot())
    acknowledgements.confirm("another")
    assert [text for text, _ in acknowledgements.update(snapshot(devices=(device(0),)))] == [
        "another: acknowledged after 1 ms"
    ]
    clock.at += 10
    assert acknowledgements.update(snapshot()) == []


@pytest.mark.parametrize("after", [device(0, "offline"), device(0, actor="a-new")])
def test_a_stop_is_acknowledged_when_the_agent_is_gone_or_another(after: Any) -> None:
    acknowledgements, _ = sent("stop_one", (0,))
    assert acknowledgements.update(snapshot(devices=(device(0),))) == []
    assert len(acknowledgements.update(snapshot(devices=(after,)))) == 1


def test_assigned_channels_are_acknowledged_when_the_agent_reports_them() -> None:
    acknowledgements, clock = sent("assign", (0, "1,0"), (1, "0"))
    first = (device(0, channels=None), device(1, "offline", channels=(0,)))
    assert acknowledgements.update(snapshot(devices=first)) == []
    clock.at += 1
    second = (device(0, channels=(1, 0)), device(1, channels=(0,)))
    assert acknowledgements.update(snapshot(devices=second)) == [
        ("the command: acknowledged by 2 devices after 1.0s", "good")
    ]


def test_all_channels_and_each_of_them_are_the_same() -> None:
    acknowledgements, _ = sent("assign", (0, "0,1"))
    assert len(acknowledgements.update(snapshot(devices=(device(0, channels=None),)))) == 1
    acknowledgements, clock = sent("assign", (0, "all"))
    assert acknowledgements.update(snapshot(devices=(device(0, channels=(1,)),))) == []
    clock.at += 6
    [(text, tone)] = acknowledgements.update(snapshot(devices=(device(0, "offline", channels=None),)))
    assert (text, tone) == ("Device0 has not acknowledged the for 6 s: it is offline", "warn")


def test_channels_and_the_server_acknowledge_too() -> None:
    acknowledgements, _ = sent("pause_channel", (0,))
    assert acknowledgements.update(snapshot()) == []
    assert len(acknowledgements.update(snapshot(channels=(channel(0, paused=True),)))) == 1
    acknowledgements, _ = sent("pause_allot")
    now = snapshot()
    assert now.server is not None
    assert acknowledgements.update(now) == []
    assert len(acknowledgements.update(replace(now, server=replace(now.server, allotting=False)))) == 1


def test_a_refused_command_is_not_waited_for() -> None:
    acknowledgements, clock = sent("pause_one", (0,))
    acknowledgements.drop("the command")
    clock.at += 10
    assert acknowledgements.update(snapshot()) == []


async def test_the_status_line_shows_sent_then_acknowledged(opened: Opened, backend: FakeBackend) -> None:
    backend.outcome = Outcome("asked Device0 to pause")
    async with opened() as pilot:
        await press(pilot, "p")
        assert "… pause_one 0: asked Device0 to pause" in screen_text(pilot)
        backend.change(devices=(paused(0), device(1)))
        await poll(pilot)
        assert "✓ pause_one 0: acknowledged after " in screen_text(pilot)


async def test_a_late_device_causes_a_warning(
    opened: Opened, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as pilot:
        await press(pilot, "end", "left", "p")
        later = time.monotonic() + 6
        monkeypatch.setattr(pilot.app.acknowledgements, "_now", lambda: later)  # type: ignore[attr-defined]
        await poll(pilot)
        assert "Device3 has not acknowledged pause_one for 6 s: it is offline" in screen_text(pilot)
        assert [n.severity for n in pilot.app._notifications] == ["warning"]


async def test_a_refusal_is_not_followed_by_a_warning(
    opened: Opened, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.refusal = CommandError("no")
    async with opened() as pilot:
        await press(pilot, "p")
        later = time.monotonic() + 60
        monkeypatch.setattr(pilot.app.acknowledgements, "_now", lambda: later)  # type: ignore[attr-defined]
        await poll(pilot)
        assert "has not acknowledged" not in screen_text(pilot)


async def test_the_grid_shows_the_answers_to_a_detect_for_a_while(
    opened: Opened, backend: FakeBackend
) -> None:
    answers = {"0": {"state": "running", "ms": 3.24}, "3": {"state": "offline", "ms": None}}
    backend.outcome = Outcome("2 running, 2 offline", data={"devices": answers})
    async with opened() as pilot:
        await press(pilot, "D")
        await poll(pilot)
        assert "3.2 ms" in screen_text(pilot)
        assert "no answer" in screen_text(pilot)
        backend.change(now_ms=NOW_MS + DETECTION_KEPT_MS + 1)
        await poll(pilot)
        assert "3.2 ms" not in screen_text(pilot)


def test_a_restart_is_acknowledged_when_another_agent_of_the_device_is_there() -> None:
    acknowledgements, _ = sent("restart_one", (0,))
    for before in (device(0), device(0, "offline"), device(0, "offline", actor="")):
        assert acknowledgements.update(snapshot(devices=(before,))) == []
    assert len(acknowledgements.update(snapshot(devices=(device(0, actor="a-new"),)))) == 1
