"""The login of `mutitask serve`: which requests are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from mutitask_tui.web import login
from mutitask_tui.web.settings import WebSettings
from mutitask_tui.web.web_server import DashboardServer
from tests.web.web_site import PASSWORD, basic_auth


@pytest.mark.parametrize("path", ["", "ws", "static/js/textual.js", "static/", "download/1", "nothing/here"])
async def test_every_route_refuses_requests_without_the_password(
    path: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    for headers in (
        {},
        basic_auth("wrong"),
        {"Authorization": "Basic !"},
        {"Authorization": "Bearer x"},
        {"Cookie": "mutitask-session=x"},
    ):
        async with browser.get(f"{site[0]}{path}", headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert PASSWORD not in await answer.text()
    async with browser.get(f"{site[0]}{path}?token=wrong", allow_redirects=False) as answer:
        assert answer.status == 401


async def test_a_websocket_without_a_password_is_refused(
    site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    for headers in ({}, basic_auth("wrong")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(f"{site[0]}ws", headers=headers)
        assert refused.value.status == 401


async def test_the_password_logs_in_and_sets_a_cookie(
    site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers=basic_auth(PASSWORD)) as answer:
        assert answer.status == 200
        assert f"ws://127.0.0.1:{site[1]}/ws" in await answer.text()
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and PASSWORD not in cookie
    async with browser.get(f"{site[0]}static/js/textual.js") as answer:
        assert answer.status == 200


async def test_the_link_logs_in_and_the_token_is_removed_from_the_address(
    site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], params={"token": PASSWORD}, allow_redirects=False) as answer:
        assert answer.status == 302 and answer.headers["Location"] == "/"
    async with browser.get(site[0]) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
async def test_other_host_names_are_refused_on_loopback(
    host: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers={"Host": host, **basic_auth(PASSWORD)}) as answer:
        assert answer.status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "[::1]", "127.0.0.1"])
async def test_names_of_loopback_are_accepted(
    host: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers={"Host": f"{host}:{site[1]}", **basic_auth(PASSWORD)}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
async def test_other_pages_cannot_open_the_websocket(
    origin: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.ws_connect(f"{site[0]}ws", headers={"Origin": origin, **basic_auth(PASSWORD)})
    assert refused.value.status == 403


@pytest.fixture
async def site(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, int]]:
    """The address and port of a web server in this process. No test starts a view there."""
    monkeypatch.setattr(login, "FAILED_LOGIN_S", 0.0)
    settings = WebSettings(redis_url, "served", "127.0.0.1", 0, PASSWORD)
    runner = aiohttp.web.AppRunner(await DashboardServer(settings).make_app(), access_log=None)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/", port
    await runner.cleanup()


async def test_beyond_loopback_every_host_name_is_accepted(redis_url: str) -> None:
    settings = WebSettings(redis_url, "served", "0.0.0.0", 0, PASSWORD, public_url="https://tasks.example")
    checks = login.Login(settings)
    assert not settings.on_loopback
    assert checks._is_right_host("tasks.example") and checks._is_right_host("10.1.2.3:8000")
    assert not checks._is_right_host("") and not checks._is_right_host("a:b:c")


@pytest.mark.parametrize("path", ["", "ws"])
async def test_a_cookie_or_password_that_is_not_text_is_refused(site: tuple[str, int], path: str) -> None:
    for line in (
        b"Cookie: mutitask-session=\xff", b"Authorization: Basic /////w==", b"Authorization: Basic \xff",
        b"Cookie: mutitask-session=\xed\xa0\x80",
    ):  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", site[1])
        writer.write(
            b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\nConnection: close\r\n\r\n" % (path.encode(), line)
        )
        answer = await reader.read()
        assert answer.split(b" ")[1] == b"401", answer[:200]
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", site[1])
    writer.write(
        b"GET /%s?token=%%ff HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % path.encode()
    )
    assert (await reader.read()).split(b" ")[1] == b"401"
    writer.close()
