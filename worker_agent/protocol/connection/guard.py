"""Stands between the socket and hiredis: a broken or lying Redis takes no more memory and time than a reply may.

hiredis makes room for what a reply only announces (13 bytes made it take 7 GB), and a time-out of redis-py begins anew
with each byte that comes. The reply's form is walked here by its headers; bodies are passed over.
"""

from __future__ import annotations

import re
from typing import Any

from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker_agent.protocol.pristine import time

BODY_BYTES = 80 * 1024 * 1024
"""Of one string: a packed item of 64 MiB (wire.MAX_BYTES), with room for those that were claimed before it."""
REPLY_BYTES = 160 * 1024 * 1024
ELEMENTS = 1_000_000
"""Of one reply, at all depths."""
LINE_BYTES = 64 * 1024
"""Of a header, a number, or an error's text."""
REPLY_S = 30.0
"""How long a reply may take, from when it is waited for; more only for what keeps coming at `LEAST_BYTES_S`."""
LEAST_BYTES_S = 64 * 1024

_SMALL = 4096
_SUSPECT = re.compile(rb"[>|]|[*~%$=!][0-9]{6}")
"""What is in a header that announces much, or in one of a push. Bodies may hold it too: then they are walked."""

_BODIES = b"$=!"
_ARRAYS = b"*~"
_LINES = b"+-:_#,("


class MalformedReply(InvalidResponse):
    """What came is no reply of a Redis to what was asked."""


class ReplyTooLarge(MalformedReply):
    """A reply of more than was asked for."""


class GuardedParser(DefaultParser):  # type: ignore[misc,valid-type]
    """redis-py's parser, with a reader that is guarded."""

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        """Begin with a new connection."""
        super().on_connect(connection, **kwargs)
        self._reader: Any = GuardedReader(self._reader)


class GuardedReader:
    """hiredis's reader, which is fed only what keeps to the bounds above. Raises `MalformedReply` or redis-py's time-out."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._nothing = reader.gets()  # What it answers where a reply is not whole yet.
        self._skip = 0
        """How many bytes of a body are still to come, its end of line among them."""
        self._head = b""
        """The beginning of a header whose end has not come."""
        self._elements = 0
        self._bytes = 0
        self._since = 0.0
        """When this reply was first waited for (monotonic); 0 while none is."""
        self._walking = False
        """Whether what came since the last whole reply is walked; a small piece that is whole replies need not be."""
        self._unwalked = b""

    def feed(self, data: Any, start: int = 0, length: int = -1) -> None:
        """More of the stream."""
        end = len(data) if length < 0 else start + length
        self._bytes += end - start
        if self._bytes > REPLY_BYTES:
            raise ReplyTooLarge(f"a reply of more than {REPLY_BYTES:,} bytes")
        if self._since and time.monotonic() - self._since > REPLY_S + self._bytes / LEAST_BYTES_S:
            raise RedisTimeoutError("a reply did not become whole in time")
        if self._walking or end - start > _SMALL or _SUSPECT.search(data, start, end) or self._unwalked:
            self._walk_on(data, start, end)
        else:
            self._unwalked = bytes(data[start:end])
        self._reader.feed(data, start, end - start)

    def gets(self, *args: Any) -> Any:
        """The next reply, or what hiredis says where it is not whole."""
        reply = self._reader.gets(*args)
        if reply is not self._nothing:
            self._elements = self._bytes = 0
            self._since = 0.0
            if not self._reader.has_data():
                self._walking, self._unwalked = False, b""
        else:
            if self._unwalked:
                self._walk_on(b"", 0, 0)
            if not self._since:
                self._since = time.monotonic()
        return reply

    def has_data(self) -> bool:
        """Whether something is there that no reply has used up."""
        return bool(self._reader.has_data())

    def _walk_on(self, data: Any, start: int, end: int) -> None:
        """Walk what was let pass so far, and this."""
        self._walking = True
        if self._unwalked:
            passed, self._unwalked = self._unwalked, b""
            self._walk(passed, 0, len(passed))
        self._walk(data, start, end)

    def _walk(self, data: Any, at: int, end: int) -> None:
        while at < end:
            if self._skip:
                passed = min(self._skip, end - at)
                self._skip -= passed
                at += passed
                continue
            stop = data.find(b"\n", at, end)
            if stop < 0 or self._head:
                piece = bytes(data[at : end if stop < 0 else stop + 1])
                self._head += piece
                if len(self._head) > LINE_BYTES:
                    raise ReplyTooLarge(f"a line of more than {LINE_BYTES:,} bytes")
                if stop >= 0:
                    head, self._head = self._head, b""
                    self._header(head[0], head[1:-2])
            else:
                if stop - at > LINE_BYTES:
                    raise ReplyTooLarge(f"a line of more than {LINE_BYTES:,} bytes")
                self._header(data[at], data[at + 1 : stop - 1])
            at = end if stop < 0 else stop + 1

    def _header(self, kind: int, rest: Any) -> None:
        self._elements += 1
        if kind in _LINES:
            if self._elements > ELEMENTS:
                raise ReplyTooLarge(f"a reply of more than {ELEMENTS:,} elements")
            return
        try:
            count = int(rest) if len(rest) <= 20 else -2
        except ValueError:
            count = -2
        if kind in _BODIES and count >= -1:
            if count > BODY_BYTES:
                raise ReplyTooLarge(f"a string of {count:,} bytes")
            self._skip = max(0, count + 2) if count >= 0 else 0
        elif kind in _ARRAYS and count >= -1:
            self._announced(count)
        elif kind == ord("%") and count >= 0:
            self._announced(2 * count)
        else:
            shown = bytes((kind,)) + bytes(rest[:20])
            raise MalformedReply(f"it sends {shown!r}, which is no reply")

    def _announced(self, elements: int) -> None:
        if self._elements + elements > ELEMENTS:
            raise ReplyTooLarge(f"a reply of {elements:,} elements")
