"""Limit the memory and time that a broken or hostile Redis can use: check the data between the socket and hiredis.

hiredis allocates the memory that a reply announces (13 bytes made it allocate 7 GB), and a time-out of redis-py starts
again with each byte. This module walks through the headers of a reply and skips the bodies.
"""

from __future__ import annotations

import re
from typing import Any

from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker_agent.protocol.unpatched import time

BODY_BYTES = 80 * 1024 * 1024
"""The most bytes of one string: a packed item of 64 MiB (wire.MAX_BYTES) and those that were claimed before it."""
REPLY_BYTES = 160 * 1024 * 1024
"""The most bytes of one reply."""
ELEMENTS = 1_000_000
"""The most elements of one reply, at all depths."""
LINE_BYTES = 64 * 1024
"""The longest header, number or error text."""
REPLY_S = 30.0
"""How long a reply may take from the first read. A reply that arrives at `MIN_BYTES_PER_S` may take longer."""
MIN_BYTES_PER_S = 64 * 1024

_SMALL = 4096
_SUSPECT = re.compile(rb"[>|]|[*~%$=!][0-9]{6}")
"""Found in every header that announces much and in every push. A body may contain it too; then it is walked as well."""

_SMALL_BODY = re.compile(rb"\$([0-9]{1,4})\r\n")
"""The header of a short string. Long lists of these are walked in a loop of their own."""

_BODIES = b"$=!"
_ARRAYS = b"*~"
_LINES = b"+-:_#,("


class MalformedReply(InvalidResponse):
    """The data is not a reply of Redis to the command."""


class ReplyTooLarge(MalformedReply):
    """The reply is larger than any reply that MutiTask asks for."""


class GuardedParser(DefaultParser):  # type: ignore[misc,valid-type]
    """redis-py's parser with a `GuardedReader`."""

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        """Start reading from a new connection."""
        super().on_connect(connection, **kwargs)
        self._reader: Any = GuardedReader(self._reader)


class GuardedReader:
    """hiredis's reader, which gets only data within the limits above.

    Raises `MalformedReply` or redis-py's time-out error.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._incomplete = reader.gets()  # What hiredis returns while a reply is incomplete.
        self._skip = 0
        """How many bytes of a body are still to come, including its end of line."""
        self._head = b""
        """The start of a header whose end has not arrived."""
        self._elements = 0
        self._bytes = 0
        self._since = 0.0
        """When the first read of an incomplete reply was (monotonic); 0 if no reply is incomplete."""
        self._walking = False
        """Whether the data since the last complete reply is walked. Small data of complete replies is not."""
        self._unwalked = b""

    def feed(self, data: Any, start: int = 0, length: int = -1) -> None:
        """Pass on the next data of the stream."""
        end = len(data) if length < 0 else start + length
        self._bytes += end - start
        if self._bytes > REPLY_BYTES:
            raise ReplyTooLarge(f"a reply of more than {REPLY_BYTES:,} bytes")
        if self._since and time.monotonic() - self._since > REPLY_S + self._bytes / MIN_BYTES_PER_S:
            raise RedisTimeoutError("a reply was not complete in time")
        if self._walking or end - start > _SMALL or _SUSPECT.search(data, start, end) or self._unwalked:
            self._walk_all(data, start, end)
        else:
            self._unwalked = bytes(data[start:end])
        self._reader.feed(data, start, end - start)

    def gets(self, *args: Any) -> Any:
        """Return the next reply, or hiredis's mark for an incomplete one."""
        reply = self._reader.gets(*args)
        if reply is not self._incomplete:
            self._elements = self._bytes = 0
            self._since = 0.0
            if not self._reader.has_data():
                self._walking, self._unwalked = False, b""
        else:
            if self._unwalked:
                self._walk_all(b"", 0, 0)
            if not self._since:
                self._since = time.monotonic()
        return reply

    def has_data(self) -> bool:
        """Return whether there is data after the last complete reply."""
        return bool(self._reader.has_data())

    def _walk_all(self, data: Any, start: int, end: int) -> None:
        """Walk the data that was passed on unchecked, then this data."""
        self._walking = True
        if self._unwalked:
            unwalked, self._unwalked = self._unwalked, b""
            self._walk(unwalked, 0, len(unwalked))
        self._walk(data, start, end)

    def _walk(self, data: Any, at: int, end: int) -> None:
        while at < end:
            if self._skip:
                skipped = min(self._skip, end - at)
                self._skip -= skipped
                at += skipped
                continue
            if not self._head and (after := self._after_small_bodies(data, at, end)) > at:
                self._skip = max(0, after - end)
                at = after
                continue
            stop = data.find(b"\n", at, end)
            if stop < 0 or self._head:
                piece = bytes(data[at : end if stop < 0 else stop + 1])
                self._head += piece
                if len(self._head) > LINE_BYTES:
                    raise ReplyTooLarge(f"a line of more than {LINE_BYTES:,} bytes")
                if stop >= 0:
                    head, self._head = self._head, b""
                    self._check_header(head[0], head[1:-2])
            else:
                if stop - at > LINE_BYTES:
                    raise ReplyTooLarge(f"a line of more than {LINE_BYTES:,} bytes")
                self._check_header(data[at], data[at + 1 : stop - 1])
            at = end if stop < 0 else stop + 1

    def _check_header(self, kind: int, rest: Any) -> None:
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
            self._check_announced(count)
        elif kind == ord("%") and count >= 0:
            self._check_announced(2 * count)
        else:
            shown = bytes((kind,)) + bytes(rest[:20])
            raise MalformedReply(f"it sends {shown!r}, which is not a reply")

    def _check_announced(self, elements: int) -> None:
        if self._elements + elements > ELEMENTS:
            raise ReplyTooLarge(f"a reply of {elements:,} elements")

    def _after_small_bodies(self, data: Any, at: int, end: int) -> int:
        """Count the short strings that follow each other from `at` on. Return their end, which may be beyond `end`."""
        while found := _SMALL_BODY.match(data, at, end):
            at = found.end() + int(found[1]) + 2
            self._elements += 1
        return at
