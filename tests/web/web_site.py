"""`mutitask serve` as a process, and what a browser sends to it."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
from collections.abc import Callable

import aiohttp

from tests.support.programs import Program

PASSWORD = "correct horse battery"


class WebSite:
    """A running `mutitask serve` and its address."""

    def __init__(self, program: Program, until: Callable[..., object]) -> None:
        self.program = program
        until(lambda: "Ctrl+C ends this" in program.stderr or not program.running, 20)
        assert program.running, program
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", program.stderr)
        assert found, program
        self.port = int(found[1])
        self.url = found[0]

    def views(self) -> list[int]:
        """The process ids of the views that it started."""
        lines = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.program.pid)], capture_output=True, text=True
        )
        return [int(pid) for pid in lines.stdout.split()]


def basic_auth(password: str) -> dict[str, str]:
    """The header with which a browser sends a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


async def read_screen(socket: aiohttp.ClientWebSocketResponse, until: str, seconds: float = 20) -> str:
    """Read what a view draws until it draws this text."""
    drawn = ""

    async def read() -> None:
        nonlocal drawn
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                drawn += re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", message.data.decode("utf-8", "replace"))
            if until in drawn:
                return

    await asyncio.wait_for(read(), seconds)
    assert until in drawn, f"the view ended: {drawn[-500:]}"
    return drawn
