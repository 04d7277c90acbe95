"""The views of `mutitask serve`: what a browser shows and may do, and when its view ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.cli.tools import Stack
from tests.web.web_site import PASSWORD, WebSite, basic_auth, read_screen


async def test_a_viewer_sees_the_dashboard_and_may_not_run_commands(
    serve: Callable[..., WebSite], stack: Stack, browser: aiohttp.ClientSession
) -> None:
    site = serve()
    headers = {"Origin": site.url.rstrip("/"), **basic_auth(PASSWORD)}
    async with browser.ws_connect(f"{site.url}ws?width=120&height=40", headers=headers) as socket:
        await socket.send_json(["resize", {"width": 120, "height": 40}])
        await read_screen(socket, "Device1")
        [view] = site.views()
        line = Path(f"/proc/{view}/cmdline").read_bytes().decode()
        password = stack.url.partition("@")[0].rpartition(":")[2]
        assert "--read-only" in line and password not in line and "redis://" not in line
        assert PASSWORD not in Path(f"/proc/{view}/environ").read_bytes().decode()
        await socket.send_json(["stdin", "P"])
        await read_screen(socket, "read-only")
    assert {device.desired for device in stack.snapshot().devices} == {"running"}
    assert not any("pause_all" in event.text for event in stack.snapshot().events)
    assert stack.core.ended.is_set() is False


async def test_commands_are_carried_out_if_they_are_allowed(
    serve: Callable[..., WebSite], stack: Stack, browser: aiohttp.ClientSession
) -> None:
    site = serve("--allow-commands")
    assert "commands are allowed" in site.program.stderr
    async with browser.ws_connect(
        f"{site.url}ws?width=120&height=40", headers=basic_auth(PASSWORD)
    ) as socket:
        await read_screen(socket, "Device1")
        await socket.send_json(["stdin", "P"])
        await asyncio.to_thread(stack.until, lambda s: all(d.desired == "paused" for d in s.devices))


async def test_views_end_with_their_tabs_and_with_the_web_server(
    serve: Callable[..., WebSite],
    browser: aiohttp.ClientSession,
    wait_until: Callable[..., object],
    stack: Stack,
) -> None:
    site = serve()
    first = await browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD))
    second = await browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD))
    await read_screen(first, "Device")
    await read_screen(second, "Device")
    await first.close()
    await asyncio.to_thread(wait_until, lambda: len(site.views()) == 1)
    [view] = site.views()
    site.program.terminate()
    assert await asyncio.to_thread(site.program.wait) == 0
    await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{view}").exists())
    await second.close()
    assert stack.snapshot().server is not None


async def test_hostile_messages_end_one_view_at_most(
    serve: Callable[..., WebSite], browser: aiohttp.ClientSession
) -> None:
    site = serve()

    async def send(message: str) -> None:
        async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as socket:
            await socket.send_str(message)
            async for _ in socket:
                pass

    messages = ("not json", "[]", json.dumps(["resize", {"width": "x"}]))
    await asyncio.gather(*map(send, messages))
    async with browser.ws_connect(f"{site.url}ws", headers=basic_auth(PASSWORD)) as socket:
        await read_screen(socket, "Device")


def test_a_viewer_writes_no_files(stack: Stack) -> None:
    """A read-only backend refuses commands that would write a file on this machine."""
    from mutitask_tui.server.commands.redis_backend import RedisBackend
    from mutitask_tui.server.commands.registry import CommandError

    backend = RedisBackend(stack.url, stack.name, read_only=True)
    with pytest.raises(CommandError, match="read-only"):
        backend.export_failed([(0, "x")])
    assert backend.snapshot().name == stack.name
