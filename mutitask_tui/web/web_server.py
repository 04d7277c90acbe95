"""The web server of `mutitask serve`: textual-serve's pages and websocket, behind a login.

It serves attached views, never the server itself: textual-serve starts one `mutitask attach` for each browser tab.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Any

import aiohttp_jinja2
from aiohttp import web
from textual_serve.server import Server

from mutitask_tui.web.login import Login
from mutitask_tui.web.settings import ServeError, WebSettings
from mutitask_tui.web.viewer import MAX_MESSAGE_BYTES, InvalidMessage, Viewer, clamp_size, forward_messages
from worker_agent.console import lines
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE

MAX_VIEWERS = 20
"""Each viewer is a process, so their number needs a limit."""


class DashboardServer(Server):
    """textual-serve with a login, with the addresses that browsers use, and with a limited number of viewers."""

    def __init__(self, settings: WebSettings) -> None:
        super().__init__(
            settings.command, host=settings.host, port=settings.port, title=f"MutiTask {settings.name}"
        )
        self._settings = settings
        self._viewer_count = 0
        self._viewers: set[Viewer] = set()

    async def make_app(self) -> web.Application:
        """Return the web application with the login in front of every route."""
        app = await self._make_app()
        app.on_startup.clear()  # It prints a banner with the command line.
        app.middlewares.insert(0, Login(self._settings).middleware)
        return app

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """Return the values of the page. Its addresses are those that the browser used."""
        base = self._settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"
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
        """Serve one browser tab with one view. Refuses it if there are too many."""
        if self._viewer_count >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"There are {MAX_VIEWERS} other viewers already.\n")
        self._viewer_count += 1
        try:
            return await self._serve_view(request)
        finally:
            self._viewer_count -= 1

    async def on_shutdown(self, app: web.Application) -> None:
        """Stop every view."""
        await asyncio.gather(*(viewer.stop() for viewer in list(self._viewers)))

    async def _serve_view(self, request: web.Request) -> web.WebSocketResponse:
        """Run a view until its tab or its process ends."""
        try:
            width, height = clamp_size(request.query.get("width", "80"), request.query.get("height", "24"))
        except InvalidMessage:
            width, height = 80, 24
        websocket = web.WebSocketResponse(heartbeat=15, max_msg_size=MAX_MESSAGE_BYTES)
        await websocket.prepare(request)
        viewer = Viewer(
            self.command,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=lambda: _close(websocket),
            download_manager=self.download_manager,
        )
        forwarding = None
        try:
            self._viewers.add(viewer)
            await viewer.start(width, height)
            forwarding = asyncio.create_task(forward_messages(websocket, viewer))
            ended = asyncio.create_task(viewer.wait_ended())
            await asyncio.wait({forwarding, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
        finally:
            if forwarding is not None:
                forwarding.cancel()
                with contextlib.suppress(asyncio.CancelledError, InvalidMessage, OSError):
                    await forwarding
            await viewer.stop()
            self._viewers.discard(viewer)
            with contextlib.suppress(OSError):
                await websocket.close()
        return websocket


async def _close(websocket: web.WebSocketResponse) -> None:
    await websocket.close()


def run(settings: WebSettings, *, announce_password: bool) -> int:
    """Serve until SIGINT or SIGTERM. Return the exit status. Raises `ServeError` if the port cannot be used."""
    os.environ[REDIS_URL_VARIABLE] = settings.url
    handler = logging.StreamHandler()
    handler.addFilter(lines.make_printable)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    return asyncio.run(_run(settings, announce_password=announce_password))


async def _run(settings: WebSettings, *, announce_password: bool) -> int:
    app = await DashboardServer(settings).make_app()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
                "use another --port or --host"
            ) from None
        _announce(settings, runner.addresses[0][1], announce_password=announce_password)
        await ended.wait()
    finally:
        await runner.cleanup()
    return 0


def _announce(settings: WebSettings, port: int, *, announce_password: bool) -> None:
    """Print the address, and a new password."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = settings.public_url.rstrip("/") or f"http://{host}:{port}"
    access = "commands are allowed" if settings.allow_commands else "read-only"
    texts = [f"the dashboard of namespace {settings.name!r} is at {base}/ ({access}); Ctrl+C ends this"]
    if announce_password:
        texts.append(f"log in with this link: {base}/?token={settings.password}")
        texts.append(f"or enter the password when the browser asks (any user name): {settings.password}")
    if not settings.on_loopback and not settings.public_url.startswith("https:"):
        texts.append(
            "plain HTTP: anyone on the network path can read the password; use a proxy with TLS or an ssh tunnel"
        )
    for text in texts:
        lines.print_stderr(text)
