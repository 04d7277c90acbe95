"""One viewer of `mutitask serve`: the process that draws for a browser's tab, and how much it may take.

textual-serve's own has no bounds: any size, any number of messages, and an end only when the view comes to it.
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
from worker_agent.protocol.pristine import time

COLUMNS, ROWS = (20, 500), (5, 200)
"""The least and the most of a viewer's terminal."""
MESSAGES_S, BURST = 100, 200
"""How many messages a viewer may send in a second, and at once: for more it waits, and nobody else does."""
BYTES_S, BURST_BYTES = 4096, 65_536
"""The same for what is typed or pasted."""
MESSAGE_BYTES = 65_536
RESIZE_S = 0.1
"""Sizes that come sooner after one another are passed over, but for the last."""
END_S = 0.5
"""How long a view may take to end by itself once its tab is gone."""
_SAID_BYTES = 4096
"""How much of what a view says on its stderr is passed on."""


class Refused(Exception):
    """A message that no page of ours sends."""


class Viewer(AppService):
    """A view's process, in a session of its own."""

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *shlex.split(self.command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        said, process.stderr = process.stderr, asyncio.StreamReader()
        # textual-serve would print it as it is.
        process.stderr.feed_eof()
        self._stdin = process.stdin
        self._telling = asyncio.create_task(_tell(said))
        return process

    async def ended(self) -> None:
        """Wait until the view has ended by itself."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """End the view: in order if it does so in `END_S`, else at once."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(Exception):
            await self._download_manager.cancel_app_downloads(app_service_id=self.app_service_id)
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            await asyncio.wait_for(self._ask_to_end(process), END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for task in (self._task, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _ask_to_end(self, process: Process) -> None:
        await self.send_meta({"type": "quit"})
        await process.wait()


async def _tell(said: asyncio.StreamReader | None) -> None:
    """Pass on what a view says on its stderr, line by line; of what is too much nothing."""
    left = _SAID_BYTES
    while said is not None and (data := await said.read(_SAID_BYTES)):
        for line in data[:left].decode("utf-8", "replace").splitlines():
            if line.strip():
                lines.print_stderr(f"a viewer's process: {line}")
        left = max(0, left - len(data))


class Pace:
    """How fast one viewer's messages are taken."""

    def __init__(self) -> None:
        self._messages, self._bytes = float(BURST), float(BURST_BYTES)
        self._at = time.monotonic()

    async def take(self, size: int) -> None:
        """Wait until a message of `size` bytes may be taken."""
        now = time.monotonic()
        self._messages = min(BURST, self._messages + (now - self._at) * MESSAGES_S) - 1
        self._bytes = min(BURST_BYTES, self._bytes + (now - self._at) * BYTES_S) - size
        self._at = now
        wait = max(-self._messages / MESSAGES_S, -self._bytes / BYTES_S)
        if wait > 0:
            await asyncio.sleep(wait)


def clamped(width: Any, height: Any) -> tuple[int, int]:
    """A terminal's size within the bounds. Raises `Refused` for what is none."""
    try:
        columns, rows = int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        raise Refused from None
    return max(COLUMNS[0], min(COLUMNS[1], columns)), max(ROWS[0], min(ROWS[1], rows))


async def pass_on(websocket: web.WebSocketResponse, viewer: Viewer) -> None:
    """Give a viewer's messages to its view, at its pace. Raises `Refused`."""
    pace = Pace()
    sizes = _Sizes(viewer)
    try:
        async for message in websocket:
            if message.type is not WSMsgType.TEXT:
                continue
            await pace.take(len(message.data))
            kind, value = _opened(message)
            if kind == "stdin" and isinstance(value, str):
                await viewer.send_bytes(value.encode("utf-8", "replace"))
            elif kind == "resize" and isinstance(value, dict):
                await sizes.set(*clamped(value.get("width"), value.get("height")))
            elif kind == "ping":
                await websocket.send_json(["pong", value])
            elif kind == "blur":
                await viewer.blur()
            elif kind == "focus":
                await viewer.focus()
    finally:
        sizes.end()


def _opened(message: Any) -> tuple[str, Any]:
    try:
        envelope = message.json()
        kind = envelope[0]
        return str(kind), envelope[1] if len(envelope) > 1 else None
    except (ValueError, TypeError, LookupError, RecursionError):
        raise Refused from None


class _Sizes:
    """Sets a view's size: the first at once, of many that follow the last."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._size: tuple[int, int] | None = None
        self._setting: asyncio.Task[None] | None = None

    async def set(self, width: int, height: int) -> None:
        """Soon after this the view has this size, or a later one."""
        self._size = width, height
        if self._setting is None or self._setting.done():
            self._setting = asyncio.create_task(self._set())

    def end(self) -> None:
        """Set no more."""
        if self._setting is not None:
            self._setting.cancel()

    async def _set(self) -> None:
        while self._size is not None:
            size, self._size = self._size, None
            await self._viewer.set_terminal_size(*size)
            await asyncio.sleep(RESIZE_S)
