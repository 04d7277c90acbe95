"""Builds the parts of a snapshot from the reply of `snapshot.lua`."""

from __future__ import annotations

from typing import Any, Literal, cast

from mutitask_tui.server.snapshot import BodyCounts, ChannelView, DeviceView, Event, EventLevel, ServerView
from worker_agent.protocol import wire
from worker_agent.protocol.keys import MAX_CHANNELS
from worker_agent.protocol.rate import decode_rate
from worker_agent.protocol.served_channels import Served, parse_served, served_numbers
from worker_agent.protocol.text import short_text

_MAX_DEVICE_DIGITS = 6
_MAX_COUNT_DIGITS = 16
_MAX_TASKS = 16
_TIME_DIGITS = 13
"""A heartbeat and an event start with their time, in ms since the epoch, in this many digits."""
_LATE_S = 2
"""Agents report every second. A younger heartbeat counts as age 0: otherwise each view would change twice a second."""

_DeviceState = tuple[bytes | None, bytes, bytes, float | None]
"""The parts of a device view: the live agent's actor, the desired state, the heartbeat, and the heartbeat's age."""


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
    except (wire.Undecodable, LookupError, TypeError, ValueError, OverflowError):
        host, pid, since = "?", 0, now
    return ServerView(
        decode_text(actor), host, pid, since, desired.get(b"allot") not in (b"paused", b"ended")
    )


class DeviceViews:
    """The devices of the grid, and the devices beyond it that have an agent.

    If nothing about a device changed, its view is the same object as in the previous snapshot. Three of four snapshots
    per second bring nothing new about a device, so a dashboard with a thousand devices can skip them at no cost.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[_DeviceState, DeviceView]] = {}
        self._channels = MAX_CHANNELS

    def update(
        self, fleet: dict[bytes, bytes], leases: dict[bytes, bytes], agents: dict[bytes, bytes],
        heartbeats: dict[bytes, bytes], desired: dict[bytes, bytes], now: int, channels: int = MAX_CHANNELS,
    ) -> tuple[DeviceView, ...]:  # fmt: skip
        """Return all devices at the time `now` (in ms), in the order of their numbers.

        `channels` is how many channels the namespace has. Devices serve no others.
        """
        if channels != self._channels:
            self._channels = channels
            self._known = {}
        live = {
            int(n): actor for n, actor in agents.items() if n.isdigit() and float(leases.get(actor, 0)) > now
        }
        size = fleet.get(b"devices", b"0")
        # Every agent may write this field, so an absurd number must not fill the memory.
        grid = int(size) if size.isdigit() and len(size) <= _MAX_DEVICE_DIGITS else 0
        numbers = sorted({*range(grid), *live})
        default = desired.get(b"default", b"paused")
        known, self._known = self._known, {}
        for number in numbers:
            key = b"%d" % number
            heartbeat = heartbeats.get(key, b"")
            seen_s = _seen_s(heartbeat, now)
            state = (live.get(number), desired.get(key, default), heartbeat, seen_s)
            entry = known.get(number)
            if entry is None or entry[0] != state:
                entry = (state, _device_view(number, *state, channels))
            self._known[number] = entry
        return tuple(view for _, view in self._known.values())


def _seen_s(heartbeat: bytes, now: int) -> float | None:
    """Return the heartbeat's age in whole seconds, rounded down, and 0 below `_LATE_S`. None without a heartbeat."""
    if len(heartbeat) > _TIME_DIGITS and heartbeat[:_TIME_DIGITS].isdigit():
        seconds = (now - int(heartbeat[:_TIME_DIGITS])) // 1000
        return float(seconds) if seconds >= _LATE_S else 0.0
    return None


def _device_view(
    number: int, actor: bytes | None, desired: bytes, heartbeat: bytes, seen_s: float | None, channels: int
) -> DeviceView:
    fields = {} if seen_s is None else _heartbeat_fields(heartbeat)
    state: Literal["running", "paused", "offline"] = "offline"
    if actor is not None:
        state = "running" if fields.get("state") == "running" else "paused"
    online = actor is not None
    tasks = _running_tasks(fields.get("tasks")) if online else ()
    return DeviceView(
        id=number,
        state=state,
        desired="running" if desired == b"running" else "paused",
        actor=decode_text(actor),
        host=str(fields.get("host", "")),
        pid=_whole_number(fields.get("pid")),
        channel=_whole_number(fields.get("channel")),
        channels=_served(fields, channels),
        running=_whole_number(fields.get("running")) if online else 0,
        current=tasks[0][0] if tasks else "",
        current_s=tasks[0][1] if tasks else 0.0,
        tasks=tasks,
        done=_whole_number(fields.get("done")),
        errors=_whole_number(fields.get("errors", fields.get("failed"))),
        seen_s=seen_s,
        since_ms=_whole_number(fields.get("since_ms")),
        version=str(fields.get("version", "")),
        python=str(fields.get("python", "")),
        concurrency=_whole_number(fields.get("concurrency")),
        task_s=_seconds(fields.get("task_s")),
        timeout_s=_seconds(fields.get("timeout_s")),
    )


def _heartbeat_fields(heartbeat: bytes) -> dict[str, Any]:
    try:
        unpacked = wire.unpack(heartbeat[_TIME_DIGITS:])
    except wire.Undecodable:
        return {}
    return unpacked if isinstance(unpacked, dict) else {}


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


def _running_tasks(reported: Any) -> tuple[tuple[str, float], ...]:
    """Return the running tasks that an agent reports. Entries of another form are left out."""
    entries = reported if isinstance(reported, list) else []
    pairs = [entry for entry in entries if isinstance(entry, list | tuple) and len(entry) == 2]
    return tuple((str(task), _seconds(seconds)) for task, seconds in pairs[:_MAX_TASKS])


def _served(fields: dict[str, Any], channels: int) -> Served:
    """Return the channels that an agent reports, or only its `channel` if there is no valid list. () without both."""
    reported, channel = fields.get("channels"), fields.get("channel")
    if isinstance(reported, str):
        try:
            served = parse_served(reported)
        except ValueError:
            pass
        else:
            return None if served is None else served_numbers(served, channels)
    return (channel,) if type(channel) is int and 0 <= channel < channels else ()


def _whole_number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
