"""Untrusted text everywhere on the screens: shown as plain text, with no crash, no link, no escape."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from mutitask_tui.server.commands.registry import CommandError, Outcome
from mutitask_tui.server.snapshot import FailedRun, RunningDetail, RunningTask
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import (
    NOW_MS,
    FakeBackend,
    channel,
    detail,
    device,
    event,
    fail,
    result,
    snapshot,
    waiting_task,
)
from tests.dashboard.hostile import TOGETHER
from worker_agent.protocol.errors import RedisUnavailable
from worker_agent.protocol.task_line import TaskLine


def hostile_backend(payload: str) -> FakeBackend:
    """Return a backend that returns `payload` for every untrusted string."""
    said = RunningTask(payload, 9.0, payload, 0, 1, 3, payload, payload)
    now = snapshot(
        name=payload,
        redis=payload,
        channels=(channel(0, failed=1), channel(1, halted=payload or "x")),
        devices=tuple(
            device(n, current=payload, host=payload, actor=payload, version=payload, tasks=(said, said))
            for n in range(3)
        ),
        events=(event(1, payload, source=payload), event(2, payload, source="Device0", level="error")),
    )
    untrusted: dict[str, Any] = dict.fromkeys(
        ("id", "stage", "error_type", "error", "traceback", "task"), payload
    )
    backend = FakeBackend(now, [fail(1, **untrusted, lines=(payload, payload)), fail(2)])
    run = FailedRun(NOW_MS, None, payload, payload, payload, payload, lines=(payload, payload))
    deep = {payload: [payload, {payload: payload}], "more": payload}
    backend.details[payload] = detail(backend.fails[0], payload=deep, failed_runs=(run, run), json=payload)
    backend.waiting = (waiting_task(1, id=payload, task=payload),)
    backend.results = (result(1, id=payload, result=payload),)
    backend.log = (payload, f"2026-11-24 03:00:00Z ERROR {payload}")
    backend.lines = tuple(TaskLine(at_ms, 0, payload, payload) for at_ms in (0, 10**18, NOW_MS))
    backend.running = RunningDetail({payload: [payload]}, 9)
    return backend


def check(pilot: Pilot[Any]) -> None:
    """Assert that the screen shows no control character, no hidden one, and no untrusted link."""
    for strip in pilot.app.screen._compositor.render_strips(pilot.app.size):
        for segment in strip:
            assert not [
                c for c in segment.text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200f"
            ]
            click = segment.style.meta.get("@click") if segment.style and segment.style.meta else None
            assert click is None
    assert pilot.app.is_running


@pytest.mark.parametrize("payload", TOGETHER.values(), ids=TOGETHER)
async def test_every_screen_shows_untrusted_text_safely(payload: str, opened: Opened) -> None:
    backend = hostile_backend(payload)
    async with opened(backend) as pilot:
        check(pilot)
        await press(pilot, "enter")
        check(pilot)
        await press(pilot, "enter")
        check(pilot)
        await press(pilot, "escape", "escape", "shift+tab", "down", "enter")
        check(pilot)
        await press(pilot, "escape", "F")
        check(pilot)
        await press(pilot, "x")
        check(pilot)
        await press(pilot, "escape", "enter")
        check(pilot)
        await press(pilot, "tab", "end", "escape", "space", "x")
        check(pilot)
        await press(pilot, "escape", "G")
        check(pilot)
        await press(pilot, "enter")
        check(pilot)
        await press(pilot, "R")
        check(pilot)
        await press(pilot, "escape", "escape", "escape", "G")
        backend.outcome = Outcome(payload + "\n" + payload)
        await press(pilot, "r")
        check(pilot)
        backend.refusal = CommandError(payload)
        await press(pilot, "r", "escape", "k")
        check(pilot)
        await press(pilot, "escape", "t")
        check(pilot)
        backend.error = RedisUnavailable(payload)
        await poll(pilot)
        check(pilot)


@pytest.mark.parametrize("payload", TOGETHER.values(), ids=TOGETHER)
async def test_dense_channels_and_searches_show_untrusted_text_safely(payload: str, opened: Opened) -> None:
    backend = hostile_backend(payload)
    backend.change(channels=tuple(channel(n, halted=payload, rate_limit=payload) for n in range(30)))
    async with opened(backend, size=(200, 24)) as pilot:
        check(pilot)
        await press(pilot, "shift+tab", "n", "slash", *"halt[/", "enter")
        check(pilot)
        await press(pilot, "F", "slash", *"[/x]", "enter", "f5")
        check(pilot)
        await press(pilot, "escape", "G", "enter", "E")
        check(pilot)


@pytest.mark.parametrize("payload", TOGETHER.values(), ids=TOGETHER)
async def test_the_editor_shows_untrusted_text_safely(payload: str, opened: Opened) -> None:
    backend = FakeBackend(fails=[fail(1)])
    backend.details["r1-000001"] = detail(backend.fails[0], payload=[payload])
    async with opened(backend) as pilot:
        await press(pilot, "F", "e")
        check(pilot)


async def test_markup_is_shown_as_text(opened: Opened) -> None:
    backend = hostile_backend("[@click=app.quit]go[/]")
    async with opened(backend) as pilot:
        assert "[@click=app.quit]go[/]" in screen_text(pilot)
        await press(pilot, "colon", *"[@click=app.quit]go[/]", "enter")
        check(pilot)
        await press(pilot, "escape", "slash", *"[/x]")
        assert "0 match /[/x]" in screen_text(pilot)
        check(pilot)
