"""Starts the dashboard on a fake backend, without a terminal."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from tests.dashboard.fake_backend import FakeBackend, fail

NEVER = 3600.0
"""An interval longer than any test: tests poll by hand."""

Opened = Callable[..., AbstractAsyncContextManager[Pilot[str]]]


@pytest.fixture(autouse=True)
def _still_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Input, "_toggle_cursor", lambda self: None)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the time zone to UTC: times on the screen are local."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def _no_automatic_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll only by hand, and read details at every snapshot."""
    monkeypatch.setattr(DashboardApp, "fast_poll_s", NEVER)
    monkeypatch.setattr(PeekingScreen, "EVERY_S", 0.0)


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pilot check every 5 ms, instead of 20 ms, whether the app is idle."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 1 / 200)


@pytest.fixture
def backend() -> FakeBackend:
    """Two channels, five devices, three failed tasks."""
    return FakeBackend(fails=[fail(n) for n in range(3)])


async def settle(pilot: Pilot[Any]) -> None:
    """Wait until the app has nothing left to do."""
    await pilot.pause()
    while any(not worker.is_finished for worker in pilot.app.workers):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()


async def poll(pilot: Pilot[Any]) -> None:
    """Let the app ask for a snapshot now."""
    pilot.app.poll()  # type: ignore[attr-defined]
    await settle(pilot)


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys and wait until they have taken effect."""
    await pilot.press(*keys)
    await settle(pilot)


def screen_text(pilot: Pilot[Any]) -> str:
    """Return the whole screen as text."""
    app = pilot.app
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join(strip.text[:width] for strip in lines[:height])


@pytest.fixture
def opened(backend: FakeBackend) -> Opened:
    """Open the dashboard: `async with opened() as pilot`."""

    @asynccontextmanager
    async def open_it(
        own: FakeBackend | None = None, size: tuple[int, int] = (120, 40)
    ) -> AsyncIterator[Pilot[str]]:
        app = DashboardApp(own or backend, interval=NEVER)
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(pilot)
            await pilot.pause()  # the layout after the first snapshot
            yield pilot

    return open_it


# A test of the app makes many objects that live until its end. Frequent collections took a fifth of the time.
gc.set_threshold(20_000, 20, 50)
