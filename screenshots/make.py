"""Makes the screenshots in this folder from a real run: `make screenshots`.

It starts an embedded Valkey, a server, seven agents and the real dashboard, and presses keys. It always writes SVG,
and also PNG if rsvg-convert is installed (Debian: librsvg2-bin).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from mutitask_tui.dashboard.app import DashboardApp
from mutitask_tui.embedded import valkey as embedded
from mutitask_tui.launch.local_agents import LocalAgents
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.redis_backend import RedisBackend
from mutitask_tui.server.core import ServerCore
from worker_agent.job import load_job
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE
from worker_agent.protocol.membership import RunPlan

HERE = Path(__file__).parent
NAME = "screenshots"
FONT = "'DejaVu Sans Mono', monospace"
CELL = 12.2
"""The width of a cell in Textual's SVG, in pixels. The width of the font is 0.602 of its size."""


def save(app: DashboardApp, name: str) -> None:
    """Write one screenshot.

    The SVG names the font instead of loading it. The font fits the cells without `textLength`, because rsvg-convert
    ignores that. Leading spaces become positions, because rsvg-convert drops them.
    """
    svg = app.export_screenshot(title="mutitask")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*;", f"font-family: {FONT};", svg)
    svg = svg.replace("font-size: 20px;", f"font-size: {CELL / 0.60205:.3f}px;")
    svg = re.sub(r'(<text [^>]*?x=")([\d.]+)("[^>]*>)((?:&#160;)+)', _without_leading_spaces, svg)
    svg = re.sub(
        r'(<text [^>]*?x=")([\d.]+)("[^>]*>)([^<]*[\u2800-\u28ff][^<]*)(</text>)', _cell_by_cell, svg
    )
    path = HERE / f"{name}.svg"
    path.write_text(svg, encoding="utf-8")
    if convert := shutil.which("rsvg-convert"):
        subprocess.run([convert, "-o", str(path.with_suffix(".png")), str(path)], check=True)
    print(path.name)


def _without_leading_spaces(match: re.Match[str]) -> str:
    before, x, after, spaces = match.groups()
    after = re.sub(r' textLength="[\d.]+"', "", after)
    return f"{before}{float(x) + CELL * spaces.count('&#160;'):g}{after}"


def _cell_by_cell(match: re.Match[str]) -> str:
    """Position each braille character by itself, because it comes from a font of another width."""
    before, x, after, text, end = match.groups()
    after = re.sub(r' textLength="[\d.]+"', "", after)
    cells = re.findall(r"&#?\w+;|.", text)
    return "".join(
        f"{before}{float(x) + CELL * column:g}{after}{cell}{end}"
        for column, cell in enumerate(cells)
        if cell not in ("\u2800", " ", "&#160;")
    )


async def shoot(
    backend: RedisBackend, name: str, size: tuple[int, int], act: Callable[[Pilot[str]], Awaitable[None]]
) -> None:
    """Open the dashboard at a size, wait for data, act, and save what it shows."""
    app = DashboardApp(backend, interval=0.25)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause(3.0)
        await act(pilot)
        await pilot.pause(0.6)
        save(app, name)


async def nothing(_pilot: Pilot[str]) -> None:
    """Press no key."""


def keys(*pressed: str) -> Callable[[Pilot[str]], Awaitable[None]]:
    """Return an action that presses these keys one after the other."""

    async def press(pilot: Pilot[str]) -> None:
        for key in pressed:
            await pilot.press(key)
            await pilot.pause(0.3)

    return press


async def shoot_all(backend: RedisBackend) -> None:
    """Make all screenshots of the run."""
    await shoot(backend, "overview", (120, 40), nothing)
    await shoot(backend, "channel", (120, 40), keys("shift+tab", "end", "enter"))
    await shoot(backend, "overview-80x24", (80, 24), nothing)
    await shoot(backend, "overview-200x60", (200, 60), nothing)
    await shoot(backend, "fails", (120, 40), keys("F"))
    await shoot(backend, "device", (120, 40), keys("enter"))
    await shoot(backend, "help", (120, 40), keys("question_mark"))
    await shoot(backend, "command-line", (120, 40), keys("colon", *"reset_max_task", "space", *"500"))
    await shoot(backend, "confirm", (120, 40), keys("R"))
    await shoot(backend, "groups", (120, 40), keys("F", "G"))
    await shoot(backend, "join", (120, 40), keys("j"))
    await shoot(backend, "chart", (120, 40), keys("H", "up"))


def shoot_fleet(url: str) -> None:
    """Make the screenshot with a thousand simulated devices, which speak the real protocol."""
    name = "fleet"
    plan = RunPlan(channels=4, devices=1000, capacity=5000, autostart=True)
    core = ServerCore(url, name, plan, [itertools.count() for _ in range(4)])
    core.open()
    core.start()
    simulated = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulated", "--name", name, "--first", str(first),
             "--count", "245", "--channels", "4", "--task-ms", "40", "--batch", "4"],
            env={**os.environ, REDIS_URL_VARIABLE: url}, cwd=HERE.parent, stdout=subprocess.DEVNULL,
        )
        for first in range(0, 1000, 250)
    ]  # fmt: skip
    try:
        backend = RedisBackend(url, name, source="operator", owns_server=True)
        wait_for_agents(backend, 980)
        commander = Commander(url, name, "operator")
        for device in range(40, 60):
            commander.pause_one(device)
        asyncio.run(shoot(backend, "thousand-devices", (200, 60), nothing))
    finally:
        for process in simulated:
            process.kill()
            process.wait()
        core.stop()


def wait_for_agents(backend: RedisBackend, count: int) -> None:
    """Wait until `count` devices have an agent, at most two minutes."""
    until = time.monotonic() + 120
    while sum(device.state != "offline" for device in backend.snapshot().devices) < count:
        if time.monotonic() > until:
            raise SystemExit(f"fewer than {count} agents started")
        time.sleep(0.2)


def main() -> None:
    """Run the job, make the screenshots and clean up."""
    job = HERE / "job.py"
    iterators = load_job(job).iterators()
    plan = RunPlan(channels=len(iterators), devices=8, capacity=200, autostart=True)
    with embedded.ensure(NAME, throwaway=True) as own:
        core = ServerCore(own.url, NAME, plan, iterators)
        core.open()
        core.start()
        agents = LocalAgents(job, own.url, NAME, 7, print)
        agents.start()
        try:
            commander = Commander(own.url, NAME, "operator")
            backend = RedisBackend(own.url, NAME, source="operator", owns_server=True)
            wait_for_agents(backend, 7)
            commander.pause_one(6)
            asyncio.run(shoot_all(backend))
        finally:
            agents.stop()
            core.stop()
        shoot_fleet(own.url)


if __name__ == "__main__":
    main()
