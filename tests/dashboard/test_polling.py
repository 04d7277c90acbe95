"""Snapshots are read outside the event loop, one at a time; a failure shows a banner and never crashes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.server.snapshot import Snapshot, Wait
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import FakeBackend, snapshot
from worker_agent.protocol.errors import RedisRefused, RedisUnavailable


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RedisUnavailable("is it running?"), "Redis does not answer since"),
        (RedisRefused("out of memory"), "Redis refuses since"),
        (ValueError("odd"), "no snapshot (ValueError) since"),
    ],
)
async def test_a_failed_poll_shows_a_banner_until_the_next_success(
    error: Exception, says: str, opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        backend.error = error
        await poll(pilot)
        assert says in screen_text(pilot)
        assert str(error) in screen_text(pilot)
        assert "TaskChannel0" in screen_text(pilot)
        assert pilot.app.screen.has_class("-stale")
        backend.error = None
        await poll(pilot)
        assert says not in screen_text(pilot)
        assert not pilot.app.screen.has_class("-stale")


async def test_a_waiting_server_shows_a_banner_and_the_view_continues(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        since_ms = int(time.time() * 1000) - 90_000
        backend.now = replace(backend.now, wait=Wait("Redis at here is out of memory (maxmemory)", since_ms))
        await poll(pilot)
        assert "the server waits since" in screen_text(pilot)
        assert "out of memory (maxmemory)" in screen_text(pilot)
        assert not pilot.app.screen.has_class("-stale")
        backend.now = replace(backend.now, wait=None)
        await poll(pilot)
        assert "the server waits" not in screen_text(pilot)


async def test_the_dashboard_opens_while_redis_is_away(opened: Opened, backend: FakeBackend) -> None:
    backend.error = RedisUnavailable("is it running?")
    async with opened() as pilot:
        await press(pilot, "p", "down", "enter", "F", "escape", "question_mark", "escape")
        assert "Redis does not answer" in screen_text(pilot)
        backend.error = None
        await poll(pilot)
        assert "Device3" in screen_text(pilot)


async def test_the_banner_shows_the_time_of_the_first_failure(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        backend.error = RedisUnavailable("is it running?")
        await poll(pilot)
        first = pilot.app.trouble  # type: ignore[attr-defined]
        await poll(pilot)
        assert pilot.app.trouble.since_ms == first.since_ms  # type: ignore[attr-defined]


class SlowBackend(FakeBackend):
    """Answers once the gate opens, and counts concurrent calls."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.active = 0
        self.max_active = 0

    def snapshot(self) -> Snapshot:
        """Wait at the gate."""
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        self.gate.wait(10)
        self.active -= 1
        return super().snapshot()


async def test_a_slow_redis_does_not_block_keys_or_queue_requests() -> None:
    backend = SlowBackend()
    app = DashboardApp(backend, interval=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(5):
            app.poll()
        await pilot.press("question_mark")
        assert len(app.screen_stack) == 2
        backend.gate.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert backend.max_active == 1


async def test_polling_repeats_by_itself() -> None:
    backend = FakeBackend()
    app = DashboardApp(backend, interval=0.1)
    async with app.run_test(size=(80, 24)) as pilot:
        while backend.polls < 3:
            await pilot.pause(0.02)
    assert backend.polls >= 3


async def test_a_frozen_view_does_not_change_until_it_is_unfrozen(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "v")
        backend.now = snapshot(name="another")
        await poll(pilot)
        assert "another" not in screen_text(pilot)
        await press(pilot, "v")
        assert "another" in screen_text(pilot)
