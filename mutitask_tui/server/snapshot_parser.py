"""Builds the parts of a snapshot from the reply of `snapshot.lua`."""

from __future__ import annotations

import re
from typing import Any, cast

from mutitask_tui.server.snapshot import BodyCounts, ChannelView, Event, EventLevel, ServerView
from worker_agent.protocol import wire
from worker_agent.protocol.rate import decode_rate
from worker_agent.protocol.text import short_text

_VERSION = re.compile("[0-9a-f]{12}")
_MAX_COUNT_DIGITS = 16
_TIME_DIGITS = 13
"""An event starts with its time, in ms since the epoch, in this many digits."""


def body_counts(meta: dict[bytes, bytes]) -> BodyCounts:
    """Return the counts of bodies that the server wrote."""
    fields = (b"bodies", b"bodies_removed", b"bodies_missing", b"bodies_at_ms")
    return BodyCounts(*(parse_count(meta, field) for field in fields))


def server_view(
    meta: dict[bytes, bytes], leases: dict[bytes, bytes], now: int, desired: dict[bytes, bytes]
) -> ServerView | None:
    """Return the server that holds the namespace, or None if its lease has expired."""
    actor = meta.get(b"server")
    if actor is None or float(leases.get(actor, 0)) <= now:
        return None
    try:
        record = wire.unpack(meta.get(b"server_record", b""))
        host, pid, since = str(record["host"]), int(record["pid"]), int(record["since_ms"])
        job = parse_version(record.get("job"))
    except (wire.Undecodable, LookupError, TypeError, ValueError, OverflowError):
        host, pid, since, job = "?", 0, now, ""
    return ServerView(
        decode_text(actor), host, pid, since, desired.get(b"allot") not in (b"paused", b"ended"), job
    )


def parse_version(value: Any) -> str:
    """Return the version of a job file, or '' if the value is none."""
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else ""


def event_views(entries: list[bytes]) -> tuple[Event, ...]:
    """Return the entries of the event list, without those that do not parse.

    An event's id is its time in ms and its position among the events of the same time.
    """
    views: list[Event] = []
    at, position = 0, 0
    for entry in entries:
        try:
            level, source, message = wire.unpack(entry[_TIME_DIGITS:])
            now = int(entry[:_TIME_DIGITS])
        except (wire.Undecodable, TypeError, ValueError):
            continue
        at, position = (now, position + 1) if now == at else (now, 0)
        known = cast(EventLevel, level if level in ("info", "warning", "error") else "info")
        views.append(Event(f"{at}-{position}", at, known, short_text(source, 100), short_text(message, 500)))
    return tuple(views)


def channel_view(
    number: int, counts: list[Any], meta: dict[bytes, bytes], desired: dict[bytes, bytes], *,
    allotting: bool, rate: float, oldest_s: float | None,
) -> ChannelView:  # fmt: skip
    """Return one channel.

    `counts` holds the server's counters, waiting, delayed, failed, results, claimed, the first item's header, and the
    tally (the counters that agents write).
    """
    counters, waiting, delayed, failed, results, claimed, _, tally = counts
    foreign = parse_count(tally, b"foreign")
    exhausted = counters.get(b"exhausted") == b"1"
    results_max = int(meta.get(b"results_max", 0))
    halted = decode_text(counters.get(b"halted"))
    if not halted and results >= results_max and not exhausted:
        halted = f"{results:,} results wait to be drained (at most {results_max:,})"
    total = counters.get(b"total")
    return ChannelView(
        id=number,
        capacity=int(counters.get(b"capacity", 0)),
        waiting=waiting,
        claimed=claimed,
        delayed=delayed,
        done=parse_count(tally, b"done"),
        failed=failed,
        deleted=int(counters.get(b"deleted", 0)),
        allotted=int(counters.get(b"allotted", 0)) + foreign,
        foreign=foreign,
        results=results,
        results_max=results_max,
        rate=rate,
        allotting=allotting and not exhausted and not halted,
        paused=desired.get(b"%d" % number) == b"paused",
        exhausted=exhausted,
        halted=halted,
        total=int(total) if total else None,
        oldest_s=oldest_s,
        errors=parse_count(tally, b"errors"),
        rate_limit=_rate_limit(desired.get(b"rate:%d" % number)),
    )


def _rate_limit(stored: bytes | None) -> str:
    rate = decode_rate(stored) if stored else None
    return "" if rate is None else str(rate)


def parse_count(tally: dict[bytes, bytes], field: bytes) -> int:
    """Return a counter that agents write, or 0 if it is not a valid number."""
    value = tally.get(field, b"0")
    return int(value) if value.isdigit() and len(value) <= _MAX_COUNT_DIGITS else 0


def parse_history_line(line: bytes) -> list[int] | None:
    """Parse a line of a channel's history, or return None if it is broken.

    The fields are: time in ms, waiting, capacity, claimed, done, failed, allotted, cursor.
    """
    try:
        numbers = [int(word) for word in line.split()]
    except ValueError:
        return None
    return numbers if len(numbers) == 8 else None


def decode_text(value: bytes | None) -> str:
    """Decode bytes from Redis, whether they are valid UTF-8 or not. None becomes ''."""
    return (value or b"").decode("utf-8", "replace")
