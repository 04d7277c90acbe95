"""The way that docs/dashboard.md walks under "One function is wrong", on a real server with real agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.snapshot import Snapshot
from tests.crashes.conftest import fleet as fleet
from tests.crashes.fleet import NAME, Fleet
from tests.dashboard.conftest import poll, press, screen_text

JOB = """
def tasks():
    yield from range(60)

def task_function(task):
    return parse({"price": task} if task % 3 else {})

def parse(page):
    return page["price"]
"""
FAILED = 20


@asynccontextmanager
async def attached(fleet: Fleet) -> AsyncIterator[Pilot[Any]]:
    app = DashboardApp(RedisBackend(fleet.redis.url, NAME), interval=3600.0)
    async with app.run_test(size=(140, 40), notifications=True) as pilot:
        yield pilot


async def until(pilot: Pilot[Any], holds: Callable[[Snapshot, str], object]) -> None:
    """Poll until the snapshot and the screen meet the condition."""
    for _ in range(400):
        await poll(pilot)
        if pilot.app.snapshot is not None and holds(pilot.app.snapshot, screen_text(pilot)):  # type: ignore[attr-defined]
            return
        await asyncio.sleep(0.05)
    raise AssertionError(screen_text(pilot))


async def confirm(pilot: Pilot[Any]) -> None:
    assert isinstance(pilot.app.screen, ConfirmScreen), screen_text(pilot)
    await press(pilot, "right", "enter")


async def test_a_function_is_mended_while_the_run_goes_on(fleet: Fleet) -> None:
    fleet.job(JOB)
    fleet.serve("--retries", "0", "--devices", "2")
    agents = [fleet.agent("--device", device) for device in ("0", "1")]
    async with attached(fleet) as pilot:
        # 1. See what fails.
        await until(pilot, lambda s, _: s.channels[0].failed == FAILED and s.channels[0].open == 0)
        await press(pilot, "F", "G")
        await until(pilot, lambda _, text: "KeyError" in text and "job.py:10 in parse" in text)
        await press(pilot, "enter", "enter")
        await until(pilot, lambda _, text: 'return page["price"]' in text and "KeyError: 'price'" in text)
        await press(pilot, "escape", "escape", "escape", "escape")

        # 2. Mend the file.
        good = fleet.job_path.read_text().replace('page["price"]', 'page.get("price", -1)')
        fleet.job_path.write_text(good)
        await until(pilot, lambda s, text: all(d.job_changed for d in s.devices) and "job changed" in text)

        # 3. Restart the agents.
        before = {device.id: device.actor for device in pilot.app.snapshot.devices}  # type: ignore[attr-defined]
        await press(pilot, "U")
        await confirm(pilot)
        await until(
            pilot,
            lambda s, text: (
                all(d.state == "running" and d.actor != before[d.id] and not d.job_changed for d in s.devices)
                and "job changed" not in text.partition("Events")[0]
            ),
        )
        snapshot = pilot.app.snapshot  # type: ignore[attr-defined]
        assert snapshot.server.job not in {device.job for device in snapshot.devices}
        assert f"job {snapshot.devices[0].job[:6]}" in screen_text(pilot)

        # 4. Reload the group.
        await press(pilot, "F", "G")
        await until(pilot, lambda _, text: "KeyError" in text)
        await press(pilot, "enter")
        await until(pilot, lambda _, text: "20" in text and "KeyError at" in text)
        await press(pilot, "R")
        await confirm(pilot)
        await until(pilot, lambda s, _: s.channels[0].failed == 0 and s.channels[0].done == 60)
    assert all(agent.running for agent in agents)
    values = {result.number: result.value for result in fleet.results()}
    assert values == {number: number if number % 3 else -1 for number in range(60)}
