"""The limits of a viewer of `mutitask serve`: size, memory, messages, and the time until its view ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from mutitask_tui.launch.attach import MAX_VIEW_BYTES
from tests.web.web_site import PASSWORD, WebSite, basic_auth, read_screen


def resident(pid: int) -> int:
    """The resident memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "size", ["width=20000&height=20000", "width=-5&height=99999999999", "width=x&height="]
)
async def test_an_impossible_terminal_size_is_clamped(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession, size: str
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws?{size}", headers=basic_auth(PASSWORD)) as socket:
        await read_screen(socket, "Device")
        for size_ in ({"width": 10**6, "height": 10**6}, {"width": -1, "height": 1e300}):
            await socket.send_json(["resize", size_])
        [view] = site.views()
        await asyncio.sleep(1)
        assert resident(view) < 400, f"{resident(view)} MB"


async def test_the_memory_of_a_view_is_limited(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as socket:
        await read_screen(socket, "Device")
        [view] = site.views()
        limits = Path(f"/proc/{view}/limits").read_text()
        assert re.search(rf"Max address space +{MAX_VIEW_BYTES} +{MAX_VIEW_BYTES}", limits), limits


async def test_a_view_ends_soon_after_its_socket_even_if_it_is_stopped(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession, wait_until: Callable[..., object]
) -> None:
    site = serve()
    for stop in (False, True):
        socket = await browser.ws_connect(f"{site.url}ws?width=500&height=200", headers=basic_auth(PASSWORD))
        await read_screen(socket, "Device")
        [view] = site.views()
        if stop:
            os.kill(view, signal.SIGSTOP)
        socket._response.close()  # Without a closing handshake.
        started_at = time.monotonic()
        await asyncio.to_thread(wait_until, lambda view=view: not is_running(view))
        assert time.monotonic() - started_at < 1.5


async def test_views_end_after_their_web_server_is_killed(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession, wait_until: Callable[..., object]
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as socket:
        await read_screen(socket, "Device")
        [view] = site.views()
        site.program.kill()
        await asyncio.to_thread(wait_until, lambda: not is_running(view))


async def test_a_view_that_dies_closes_its_tab(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as socket:
        await read_screen(socket, "Device")
        [view] = site.views()
        os.kill(view, signal.SIGKILL)

        async def read_to_end() -> None:
            async for _ in socket:
                pass

        await asyncio.wait_for(read_to_end(), 10)


@pytest.mark.parametrize("kind", ["stdin", "resize", "ping", "large"])
async def test_a_flood_slows_only_its_own_viewer(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession, kind: str
) -> None:
    site = serve()
    message = {
        "stdin": ["stdin", "j" * 50], "resize": ["resize", {"width": 400, "height": 150}],
        "ping": ["ping", "x"], "large": ["stdin", "x" * 10_000_000],
    }[kind]  # fmt: skip

    async def flood(socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            while not socket.closed:
                await socket.send_json(message)

    async def drain(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in socket:
            pass

    bad = await browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD))
    await read_screen(bad, "Device")
    [view] = site.views()
    flooding = [asyncio.create_task(flood(bad)), asyncio.create_task(drain(bad))]
    async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as good:
        await read_screen(good, "Device")
        slowest = 0.0
        for number in range(10):
            started_at = time.monotonic()
            await good.send_json(["ping", number])
            async for message_ in good:
                if message_.type is aiohttp.WSMsgType.TEXT and json.loads(message_.data) == ["pong", number]:
                    break
            slowest = max(slowest, time.monotonic() - started_at)
            await asyncio.sleep(0.1)
        assert slowest < 2.0, f"a ping of another viewer took {slowest:.1f} s"
        if is_running(view):
            assert resident(view) < 500
    for task in flooding:
        task.cancel()
    bad._response.close()
