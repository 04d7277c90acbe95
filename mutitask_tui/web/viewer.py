"""One viewer of `mutitask serve`: the process that draws for a browser tab, and the limits that apply to it.

textual-serve's own class has no limits: it accepts any size and any number of messages, and waits for a view to end by
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import Process
from typing import Any

from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService

from worker_agent.console import lines
from worker_agent.protocol.unpatched import time

MIN_COLUMNS, MAX_COLUMNS = 20, 500
MIN_ROWS, MAX_ROWS = 5, 200
MESSAGES_PER_S, BURST_MESSAGES = 100, 200
"""How many messages a viewer may send per second, and at once. If it sends more, only this viewer waits."""
BYTES_PER_S, BURST_BYTES = 4096, 65_536
"""The same for the bytes of typed or pasted text."""
MAX_MESSAGE_BYTES = 65_536
RESIZE_INTERVAL_S = 0.1
"""Of the sizes that arrive within this time only the last one is used."""
STOP_S = 0.5
"""How long a view may take to end by itself after its tab was closed."""
_MAX_STDERR_BYTES = 4096
"""How much of a view's stderr is printed."""


class InvalidMessage(Exception):
    """A message that our page never sends."""


class Viewer(AppService):
    """The process of a view, in a session of its own."""

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *shlex.split(self.command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        # textual-serve would print stderr unfiltered, so it gets an empty stream instead.
        stderr, process.stderr = process.stderr, asyncio.StreamReader()
        process.stderr.feed_eof()
        self._stdin = process.stdin
        self._printing = asyncio.create_task(_print_stderr(stderr))
        return process

    async def wait_ended(self) -> None:
        """Wait until the view has ended by itself."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Ask the view to end, and kill it after half a second."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(Exception):
            await self._download_manager.cancel_app_downloads(app_service_id=self.app_service_id)
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await asyncio.wait_for(self._request_end(process), STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for task in (self._task, self._printing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _request_end(self, process: Process) -> None:
        await self.send_meta({"type": "quit"})
        await process.wait()


async def _print_stderr(stderr: asyncio.StreamReader | None) -> None:
    """Print the first 4096 bytes of a view's stderr, line by line. Read and discard the rest."""
    left = _MAX_STDERR_BYTES
    while stderr is not None and (data := await stderr.read(_MAX_STDERR_BYTES)):
        for line in data[:left].decode("utf-8", "replace").splitlines():
            if line.strip():
                lines.print_stderr(f"a viewer's process: {line}")
        left = max(0, left - len(data))


class RateLimit:
    """Limits the messages and bytes per second of one viewer."""

    def __init__(self) -> None:
        self._messages, self._bytes = float(BURST_MESSAGES), float(BURST_BYTES)
        self._updated_at = time.monotonic()

    async def acquire(self, size: int) -> None:
        """Wait until a message of `size` bytes may be handled."""
        now = time.monotonic()
        elapsed = now - self._updated_at
        self._messages = min(BURST_MESSAGES, self._messages + elapsed * MESSAGES_PER_S) - 1
        self._bytes = min(BURST_BYTES, self._bytes + elapsed * BYTES_PER_S) - size
        self._updated_at = now
        wait = max(-self._messages / MESSAGES_PER_S, -self._bytes / BYTES_PER_S)
        if wait > 0:
            await asyncio.sleep(wait)


def clamp_size(width: Any, height: Any) -> tuple[int, int]:
    """Return a terminal's size within the limits. Raises `InvalidMessage` for values that are not numbers."""
    try:
        columns, rows = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        raise InvalidMessage from None
    return max(MIN_COLUMNS, min(MAX_COLUMNS, columns)), max(MIN_ROWS, min(MAX_ROWS, rows))


async def forward_messages(websocket: web.WebSocketResponse, viewer: Viewer) -> None:
    """Forward a browser's messages to its view, within the rate limit. Raises `InvalidMessage`."""
    limit = RateLimit()
    resizer = _Resizer(viewer)
    try:
        async for message in websocket:
            if message.type is not WSMsgType.TEXT:
                continue
            await limit.acquire(len(message.data))
            kind, value = _parse(message)
            if kind == "stdin" and isinstance(value, str):
                await viewer.send_bytes(value.encode("utf-8", "replace"))
            elif kind == "resize" and isinstance(value, dict):
                await resizer.resize(*clamp_size(value.get("width"), value.get("height")))
            elif kind == "ping":
                await websocket.send_json(["pong", value])
            elif kind == "blur":
                await viewer.blur()
            elif kind == "focus":
                await viewer.focus()
    finally:
        resizer.stop()


def _parse(message: Any) -> tuple[str, Any]:
    """Return the kind and the value of a message. Raises `InvalidMessage`."""
    try:
        envelope = message.json()
        kind = envelope[0]
        return str(kind), envelope[1] if len(envelope) > 1 else None
    except (ValueError, TypeError, LookupError, RecursionError):
        raise InvalidMessage from None


class _Resizer:
    """Sets the size of a view: the first one at once, and of those that follow quickly only the last."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._size: tuple[int, int] | None = None
        self._resizing: asyncio.Task[None] | None = None

    async def resize(self, width: int, height: int) -> None:
        """Set this size soon, unless a later one replaces it."""
        self._size = width, height
        if self._resizing is None or self._resizing.done():
            self._resizing = asyncio.create_task(self._resize())

    def stop(self) -> None:
        """Set no further sizes."""
        if self._resizing is not None:
            self._resizing.cancel()

    async def _resize(self) -> None:
        while self._size is not None:
            size, self._size = self._size, None
            await self._viewer.set_terminal_size(*size)
            await asyncio.sleep(RESIZE_INTERVAL_S)
