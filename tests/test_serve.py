"""`mutitask serve`: who is let in, what they may do, and what they may not learn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from mutitask_tui.server.reader import Reader
from mutitask_tui.web import web_server as web
from mutitask_tui.web.serve import VIEW_BYTES, ServeError, Serving, find_password, is_loopback
from tests.cli.tools import House, mutitask
from tests.support.programs import Program

PASSWORD = "correct horse battery"


@pytest.fixture
def house(redis_url: str) -> Iterator[House]:
    """A server with one running device."""
    with House(redis_url, "served", iter(range(5)), devices=2, autostart=True) as house:
        house.agent(0)
        yield house


class Site:
    """`mutitask serve` as a process, and where it is."""

    def __init__(self, program: Program, until: Callable[..., object]) -> None:
        self.program = program
        until(lambda: "Ctrl+C ends this" in program.stderr or not program.running, 20)
        assert program.running, program
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", program.stderr)
        assert found, program
        self.port = int(found[1])
        self.url = found[0]

    def children(self) -> list[int]:
        """The views that it started."""
        lines = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.program.pid)], capture_output=True, text=True
        )
        return [int(pid) for pid in lines.stdout.split()]


@pytest.fixture
def serve(
    house: House, spawn: Callable[..., Program], wait_until: Callable[..., object]
) -> Callable[..., Site]:
    """Serve the house's namespace with these options."""

    def start(*options: str) -> Site:
        env = {"MUTITASK_REDIS_URL": house.url, "MUTITASK_SERVE_PASSWORD": PASSWORD}
        line = ["mutitask", "serve", "--name", house.name, "--port", "0", *options]
        return Site(spawn(line, env), wait_until)

    return start


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Keeps cookies, as a browser does, also for an address."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


async def screen(socket: aiohttp.ClientWebSocketResponse, until: str, seconds: float = 20) -> str:
    """What the view drew until it drew this."""
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


# -- who is let in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "ws", "static/js/textual.js", "static/", "download/1", "nothing/here"])
async def test_every_route_refuses_whoever_has_no_password(
    path: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    for headers in (
        {},
        basic("wrong"),
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
    for headers in ({}, basic("wrong")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(f"{site[0]}ws", headers=headers)
        assert refused.value.status == 401


async def test_the_password_lets_in_and_leaves_a_cookie(
    site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers=basic(PASSWORD)) as answer:
        assert answer.status == 200
        assert f"ws://127.0.0.1:{site[1]}/ws" in await answer.text()
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and PASSWORD not in cookie
    async with browser.get(f"{site[0]}static/js/textual.js") as answer:
        assert answer.status == 200


async def test_the_link_lets_in_and_the_token_leaves_the_address(
    site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], params={"token": PASSWORD}, allow_redirects=False) as answer:
        assert answer.status == 302 and answer.headers["Location"] == "/"
    async with browser.get(site[0]) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
async def test_another_hosts_name_is_refused_on_loopback(
    host: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers={"Host": host, **basic(PASSWORD)}) as answer:
        assert answer.status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "[::1]", "127.0.0.1"])
async def test_loopbacks_names_are_right(
    host: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    async with browser.get(site[0], headers={"Host": f"{host}:{site[1]}", **basic(PASSWORD)}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
async def test_another_page_cannot_drive_the_websocket(
    origin: str, site: tuple[str, int], browser: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.ws_connect(f"{site[0]}ws", headers={"Origin": origin, **basic(PASSWORD)})
    assert refused.value.status == 403


@pytest.fixture
async def site(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, int]]:
    """The web server in this process: nobody gets so far that a view is begun."""
    monkeypatch.setattr(web, "FAILED_LOGIN_S", 0.0)
    serving = Serving(redis_url, "served", "127.0.0.1", 0, PASSWORD)
    runner = aiohttp.web.AppRunner(await web.View(serving).make_app(), access_log=None)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/", port
    await runner.cleanup()


async def test_beyond_loopback_any_name_is_right_but_no_other_page(redis_url: str) -> None:
    serving = Serving(redis_url, "served", "0.0.0.0", 0, PASSWORD, public_url="https://tasks.example")
    door = web.Door(serving)
    assert not serving.on_loopback
    assert door._right_host("tasks.example") and door._right_host("10.1.2.3:8000")
    assert not door._right_host("") and not door._right_host("a:b:c")


# -- what they see and may do ------------------------------------------------------------------------


async def test_a_viewer_sees_the_dashboard_and_is_refused_commands(
    serve: Callable[..., Site], house: House, browser: aiohttp.ClientSession
) -> None:
    site = serve()
    headers = {"Origin": site.url.rstrip("/"), **basic(PASSWORD)}
    async with browser.ws_connect(f"{site.url}ws?width=120&height=40", headers=headers) as socket:
        await socket.send_json(["resize", {"width": 120, "height": 40}])
        await screen(socket, "Device1")
        [view] = site.children()
        line = Path(f"/proc/{view}/cmdline").read_bytes().decode()
        password = house.url.partition("@")[0].rpartition(":")[2]
        assert "--read-only" in line and password not in line and "redis://" not in line
        assert PASSWORD not in Path(f"/proc/{view}/environ").read_bytes().decode()
        await socket.send_json(["stdin", "P"])
        await screen(socket, "read-only")
    assert {device.desired for device in house.snapshot().devices} == {"running"}
    assert not any("pause_all" in event.text for event in house.snapshot().events)
    assert house.core.ended.is_set() is False


async def test_commands_are_carried_out_where_they_are_allowed(
    serve: Callable[..., Site], house: House, browser: aiohttp.ClientSession
) -> None:
    site = serve("--allow-commands")
    assert "commands are allowed" in site.program.stderr
    async with browser.ws_connect(f"{site.url}ws?width=120&height=40", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device1")
        await socket.send_json(["stdin", "P"])
        await asyncio.to_thread(house.until, lambda s: all(d.desired == "paused" for d in s.devices))


async def test_views_end_with_their_tabs_and_with_the_server(
    serve: Callable[..., Site],
    browser: aiohttp.ClientSession,
    wait_until: Callable[..., object],
    house: House,
) -> None:
    site = serve()
    first = await browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD))
    second = await browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD))
    await screen(first, "Device")
    await screen(second, "Device")
    await first.close()
    await asyncio.to_thread(wait_until, lambda: len(site.children()) == 1)
    [view] = site.children()
    site.program.terminate()
    assert await asyncio.to_thread(site.program.wait) == 0
    await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{view}").exists())
    await second.close()
    assert house.snapshot().server is not None


async def test_hostile_messages_end_one_view_at_most(
    serve: Callable[..., Site], browser: aiohttp.ClientSession
) -> None:
    site = serve()

    async def send(message: str) -> None:
        async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as socket:
            await socket.send_str(message)
            async for _ in socket:
                pass

    messages = ("not json", "[]", json.dumps(["resize", {"width": "x"}]))
    await asyncio.gather(*map(send, messages))
    async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device")


# -- the command line --------------------------------------------------------------------------------


def test_a_new_password_is_printed_once_with_its_link(
    house: House, spawn: Callable[..., Program], wait_until: Callable[..., object]
) -> None:
    program = spawn(
        ["mutitask", "serve", "--name", house.name, "--port", "0"], {"MUTITASK_REDIS_URL": house.url}
    )
    site = Site(program, wait_until)
    link = re.search(rf"log in by this link: {site.url}\?token=(\S+)", program.stderr)
    assert link and len(link[1]) >= 32
    assert program.stderr.count(link[1]) == 2
    assert house.url.partition("@")[0].rpartition(":")[2] not in program.stderr


def test_a_given_password_is_not_printed(serve: Callable[..., Site]) -> None:
    site = serve()
    assert PASSWORD not in site.program.stderr + site.program.stdout
    assert PASSWORD not in Path(f"/proc/{site.program.pid}/cmdline").read_text()


def test_where_the_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n")
    monkeypatch.setenv("MUTITASK_SERVE_PASSWORD", "from the environment")
    assert find_password(file) == ("from a file", False)
    monkeypatch.setenv("MUTITASK_SERVE_PASSWORD", "from the environment")
    assert find_password(None) == ("from the environment", False)
    assert "MUTITASK_SERVE_PASSWORD" not in os.environ
    new, is_new = find_password(None)
    assert is_new and len(new) >= 32 and new != find_password(None)[0]
    for text, says in (("", "is empty"), ("short", "too short")):
        file.write_text(text)
        with pytest.raises(ServeError, match=says):
            find_password(file)
    with pytest.raises(ServeError, match="cannot be read"):
        find_password(tmp_path / "nothing")


def test_which_hosts_are_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil.example", ""))
    )


def test_a_port_in_use_is_one_sentence(
    serve: Callable[..., Site], house: House, spawn: Callable[..., Program]
) -> None:
    site = serve()
    line = ["mutitask", "serve", "--name", house.name, "--port", str(site.port)]
    program = spawn(line, {"MUTITASK_REDIS_URL": house.url})
    assert program.wait() == 2
    assert f"cannot listen on 127.0.0.1:{site.port} (" in program.stderr
    assert "Traceback" not in program.stderr


def test_nothing_is_served_of_a_namespace_that_is_not_there(redis_url: str) -> None:
    said = mutitask("serve", "--redis", redis_url, "--name", "nobody")
    assert said.status == 1 and "nothing runs in namespace 'nobody'" in said.stderr


def test_without_textual_serve_it_says_what_to_install(
    redis_url: str, house: House, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "textual_serve").mkdir()
    (tmp_path / "textual_serve" / "__init__.py").write_text("raise ImportError('not here')\n")
    line = [
        sys.executable,
        "-c",
        "from mutitask_tui.cli.main import main; main()",
        "serve",
        "--name",
        house.name,
    ]
    env = {"MUTITASK_REDIS_URL": redis_url, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    ended = subprocess.run(line, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert ended.stderr == "mutitask: serve needs textual-serve: pip install 'mutitask[serve]'\n"


def test_a_viewer_writes_no_files(house: House) -> None:
    """A read-only link refuses what would leave a file on the server's disk."""
    from mutitask_tui.server.commands.redis_backend import RedisBackend
    from mutitask_tui.server.commands.registry import CommandError

    link = RedisBackend(house.url, house.name, read_only=True)
    with pytest.raises(CommandError, match="read-only"):
        link.export_failed([(0, "x")])
    assert Reader(house.url, house.name).snapshot().name == house.name


# -- what a viewer may take --------------------------------------------------------------------------


def resident(pid: int) -> int:
    """The memory that a process has, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "size", ["width=20000&height=20000", "width=-5&height=99999999999", "width=x&height="]
)
async def test_a_size_that_no_terminal_has_is_clamped(
    serve: Callable[..., Site], browser: aiohttp.ClientSession, size: str
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws?{size}", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device")
        for size_ in ({"width": 10**6, "height": 10**6}, {"width": -1, "height": 1e300}):
            await socket.send_json(["resize", size_])
        [view] = site.children()
        await asyncio.sleep(1)
        assert resident(view) < 400, f"{resident(view)} MB"


async def test_a_view_has_a_limit_of_memory(
    serve: Callable[..., Site], browser: aiohttp.ClientSession
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device")
        [view] = site.children()
        limits = Path(f"/proc/{view}/limits").read_text()
        assert re.search(rf"Max address space +{VIEW_BYTES} +{VIEW_BYTES}", limits), limits


async def test_a_view_ends_within_a_second_of_its_socket_even_if_it_stands_still(
    serve: Callable[..., Site], browser: aiohttp.ClientSession, wait_until: Callable[..., object]
) -> None:
    site = serve()
    for stop in (False, True):
        socket = await browser.ws_connect(f"{site.url}ws?width=500&height=200", headers=basic(PASSWORD))
        await screen(socket, "Device")
        [view] = site.children()
        if stop:
            os.kill(view, signal.SIGSTOP)
        socket._response.close()  # Without a farewell.
        began = time.monotonic()
        await asyncio.to_thread(wait_until, lambda view=view: not is_there(view))
        assert time.monotonic() - began < 1.5


async def test_views_end_where_the_web_server_is_killed(
    serve: Callable[..., Site], browser: aiohttp.ClientSession, wait_until: Callable[..., object]
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device")
        [view] = site.children()
        site.program.kill()
        await asyncio.to_thread(wait_until, lambda: not is_there(view))


async def test_a_view_that_dies_closes_its_tab(
    serve: Callable[..., Site], browser: aiohttp.ClientSession
) -> None:
    site = serve()
    async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as socket:
        await screen(socket, "Device")
        [view] = site.children()
        os.kill(view, signal.SIGKILL)

        async def to_the_end() -> None:
            async for _ in socket:
                pass

        await asyncio.wait_for(to_the_end(), 10)


@pytest.mark.parametrize("kind", ["stdin", "resize", "ping", "large"])
async def test_a_flood_slows_only_its_own_viewer(
    serve: Callable[..., Site], browser: aiohttp.ClientSession, kind: str
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

    bad = await browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD))
    await screen(bad, "Device")
    [view] = site.children()
    flooding = [asyncio.create_task(flood(bad)), asyncio.create_task(drain(bad))]
    async with browser.ws_connect(f"{site.url}ws", headers=basic(PASSWORD)) as good:
        await screen(good, "Device")
        slowest = 0.0
        for number in range(10):
            began = time.monotonic()
            await good.send_json(["ping", number])
            async for message_ in good:
                if message_.type is aiohttp.WSMsgType.TEXT and json.loads(message_.data) == ["pong", number]:
                    break
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.1)
        assert slowest < 2.0, f"a ping of another viewer took {slowest:.1f} s"
        if is_there(view):
            assert resident(view) < 500
    for task in flooding:
        task.cancel()
    bad._response.close()


@pytest.mark.parametrize("path", ["", "ws"])
async def test_a_cookie_or_password_that_is_no_text_is_refused_like_any_other(
    site: tuple[str, int], path: str
) -> None:
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
