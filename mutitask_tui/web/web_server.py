"""The web server of `mutitask serve`: textual-serve's pages and websocket behind a login.

Every route asks who comes: the page, the files, the downloads and the websocket. A person logs in by the link that was
printed (`/?token=...`) or by the password in the browser's own dialog (HTTP basic authentication, any user name);
both leave a cookie, because not every browser sends basic authentication with a websocket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp_jinja2
from aiohttp import web
from textual_serve.server import Server

from mutitask_tui.web.serve import MOST_VIEWERS, ServeError, Serving, is_loopback
from mutitask_tui.web.viewer import MESSAGE_BYTES, Refused, Viewer, clamped, pass_on
from worker_agent.console import lines

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FAILED_LOGIN_S = 1.0
"""Each wrong password costs this long, one after the other: guessing is slow whoever guesses."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Door:
    """Who may come in: the right host, the right origin, the password or a cookie that it earned."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._session = secrets.token_urlsafe(32)
        self._guessing = asyncio.Lock()
        self._public = urlsplit(serving.public_url)
        self._cookie = "mutitask-session"

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Before every route."""
        try:
            response = await self._answer(request, handler)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._right_host(request.host):
            raise web.HTTPForbidden(
                text=f"This is not {request.host[:80]!r}: open the address that was printed.\n"
            )
        if not self._right_origin(request):
            raise web.HTTPForbidden(text="Another page may not use this one.\n")
        if _same(request.cookies.get(self._cookie, ""), self._session):
            if "token" in request.query:
                raise self._letting_in(web.HTTPFound("/"))
            return await handler(request)
        given = self._given(request)
        if given is not None:
            if self._is_password(given):
                if "token" in request.query:
                    raise self._letting_in(web.HTTPFound("/"))
                response = await handler(request)
                if not response.prepared:
                    self._letting_in(response)
                return response
            async with self._guessing:
                await asyncio.sleep(FAILED_LOGIN_S)
        raise web.HTTPUnauthorized(
            text="Open the link that `mutitask serve` printed, or give its password.\n",
            headers={"WWW-Authenticate": 'Basic realm="MutiTask", charset="UTF-8"'},
        )

    def _letting_in(self, response: Any) -> Any:
        secure = self._public.scheme == "https"
        response.set_cookie(
            self._cookie, self._session, httponly=True, samesite="Strict", secure=secure, path="/"
        )
        return response

    def _is_password(self, given: str) -> bool:
        return _same(given, self._serving.password)

    @staticmethod
    def _given(request: web.Request) -> str | None:
        """The password that came with the request, right or wrong."""
        if "token" in request.query:
            return request.query["token"]
        scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(coded, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""

    def _right_host(self, host: str) -> bool:
        """On loopback only loopback's names: a page whose name was bent to 127.0.0.1 names itself."""
        if self._public.netloc and host == self._public.netloc:
            return True
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
            _ = parts.port
        except ValueError:
            return False
        return bool(name) and (not self._serving.on_loopback or is_loopback(name))

    def _right_origin(self, request: web.Request) -> bool:
        """A browser names the page that opens a websocket or sends a form; only our own page may."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        netloc = urlsplit(origin).netloc
        return bool(netloc) and netloc in (request.host, self._public.netloc)


def _same(given: str, right: str) -> bool:
    """Whether they are equal, in a time that does not tell how much of it is. What was given may be no Unicode."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())


class View(Server):
    """textual-serve, with our door, our addresses and a limit to how many look on."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(
            serving.command, host=serving.host, port=serving.port, title=f"MutiTask {serving.name}"
        )
        self._serving = serving
        self._viewers = 0
        self._open: set[Viewer] = set()

    async def make_app(self) -> web.Application:
        """The whole application, the door before it."""
        app = await self._make_app()
        app.on_startup.clear()  # A banner that prints the command.
        app.middlewares.insert(0, Door(self._serving).middleware)
        return app

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """The page; its addresses are those by which the browser came."""
        base = self._serving.public_url.rstrip("/") or f"{request.scheme}://{request.host}"
        try:
            size = min(48, max(6, int(request.query.get("fontsize", "16"))))
        except ValueError:
            size = 16
        return {
            "font_size": size,
            "app_websocket_url": f"ws{base.removeprefix('http')}/ws",
            "config": {"static": {"url": f"{base}/static/"}},
            "application": {"name": self.title},
        }

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One tab, one view; each is a process, so there is an end to it."""
        if self._viewers >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_VIEWERS} others are looking on already.\n")
        self._viewers += 1
        try:
            return await self._view(request)
        finally:
            self._viewers -= 1

    async def on_shutdown(self, app: web.Application) -> None:
        """End every view."""
        await asyncio.gather(*(viewer.stop() for viewer in list(self._open)))

    async def _view(self, request: web.Request) -> web.WebSocketResponse:
        """A view until its tab or its process ends."""
        try:
            width, height = clamped(request.query.get("width", "80"), request.query.get("height", "24"))
        except Refused:
            width, height = 80, 24
        websocket = web.WebSocketResponse(heartbeat=15, max_msg_size=MESSAGE_BYTES)
        await websocket.prepare(request)
        viewer = Viewer(
            self.command,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=lambda: _closed(websocket),
            download_manager=self.download_manager,
        )
        passing = None
        try:
            self._open.add(viewer)
            await viewer.start(width, height)
            passing = asyncio.create_task(pass_on(websocket, viewer))
            ended = asyncio.create_task(viewer.ended())
            await asyncio.wait({passing, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
        finally:
            if passing is not None:
                passing.cancel()
                with contextlib.suppress(asyncio.CancelledError, Refused, OSError):
                    await passing
            await viewer.stop()
            self._open.discard(viewer)
            with contextlib.suppress(OSError):
                await websocket.close()
        return websocket


async def _closed(websocket: web.WebSocketResponse) -> None:
    await websocket.close()


def run(serving: Serving, *, announce_password: bool) -> int:
    """Serve until SIGINT or SIGTERM. Raises `ServeError` where the port cannot be had."""
    handler = logging.StreamHandler()
    handler.addFilter(lines.make_printable)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    return asyncio.run(_run(serving, announce_password=announce_password))


async def _run(serving: Serving, *, announce_password: bool) -> int:
    runner = web.AppRunner(await View(serving).make_app(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        try:
            await web.TCPSite(runner, serving.host, serving.port).start()
        except OSError as error:
            raise ServeError(
                f"cannot listen on {serving.host}:{serving.port} ({error.strerror or error}): "
                "name another --port or --host"
            ) from None
        _announce(serving, runner.addresses[0][1], announce_password=announce_password)
        await ended.wait()
    finally:
        await runner.cleanup()
    return 0


def _announce(serving: Serving, port: int, *, announce_password: bool) -> None:
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    base = serving.public_url.rstrip("/") or f"http://{host}:{port}"
    may = "commands are allowed" if serving.allow_commands else "read-only"
    said = [f"the dashboard of namespace {serving.name!r} is at {base}/ ({may}); Ctrl+C ends this"]
    if announce_password:
        said.append(f"log in by this link: {base}/?token={serving.password}")
        said.append(f"or give the password when the browser asks (any user name): {serving.password}")
    if not serving.on_loopback and not serving.public_url.startswith("https:"):
        said.append(
            "plain HTTP: whoever can listen on the way can read the password; "
            "a proxy with TLS or an ssh tunnel ends that"
        )
    for line in said:
        lines.print_stderr(line)
