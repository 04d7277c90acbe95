"""Builds a snapshot's parts from what the snapshot script returns."""

from __future__ import annotations

from typing import Any, Literal, cast

from mutitask_tui.server.snapshot import ChannelView, DeviceView, Event, EventLevel, ServerView
from worker_agent.protocol import wire
from worker_agent.protocol.words import in_words


def server_view(
    meta: dict[bytes, bytes], leases: dict[bytes, bytes], now: int, desired: dict[bytes, bytes]
) -> ServerView | None:
    """The server that holds the namespace, if its lease runs."""
    actor = meta.get(b"server")
    if actor is None or float(leases.get(actor, 0)) <= now:
        return None
    try:
        record = wire.unpack(meta.get(b"server_record", b""))
        host, pid, since = str(record["host"]), int(record["pid"]), int(record["since_ms"])
    except (wire.Undecodable, LookupError, TypeError, ValueError, OverflowError):
        host, pid, since = "?", 0, now
    return ServerView(text(actor), host, pid, since, desired.get(b"allot") not in (b"paused", b"ended"))


_MOST_DIGITS = 6
_MOST_DIGITS_OF_COUNT = 16


class DeviceViews:
    """The devices of the grid, and those beyond it that have an agent.

    A view of which nothing changed is the same object as in the snapshot before: of four snapshots a second three
    bring nothing new about a device, which a dashboard with a thousand of them can tell at no cost.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[_Seen, DeviceView]] = {}

    def of(
        self, fleet: dict[bytes, bytes], leases: dict[bytes, bytes], agents: dict[bytes, bytes],
        reports: dict[bytes, bytes], desired: dict[bytes, bytes], now: int,
    ) -> tuple[DeviceView, ...]:  # fmt: skip
        """All devices at that instant, by number."""
        live = {
            int(n): actor for n, actor in agents.items() if n.isdigit() and float(leases.get(actor, 0)) > now
        }
        noted = fleet.get(b"devices", b"0")
        # Every agent may write it: what can be no number of devices must not fill the memory.
        grid = int(noted) if noted.isdigit() and len(noted) <= _MOST_DIGITS else 0
        numbers = sorted({*range(grid), *live})
        otherwise = desired.get(b"default", b"paused")
        known, self._known = self._known, {}
        for number in numbers:
            key = b"%d" % number
            report = reports.get(key, b"")
            seen_s = _seen_s(report, now)
            state = (live.get(number), desired.get(key, otherwise), report, seen_s)
            before = known.get(number)
            if before is None or before[0] != state:
                before = (state, _device(number, *state))
            self._known[number] = before
        return tuple(view for _, view in self._known.values())


_Seen = tuple[bytes | None, bytes, bytes, float | None]
"""What a view is made of: the live agent's actor, the wish, the report, and how old that is."""


def _seen_s(report: bytes, now: int) -> float | None:
    """Whole seconds since the report was taken, rounded down; 0 until the next one is late."""
    if len(report) > 13 and report[:13].isdigit():
        seconds = (now - int(report[:13])) // 1000
        return float(seconds) if seconds >= _LATE_S else 0.0
    return None


_LATE_S = 2
"""Agents report every second: what is younger counts as now, or each view would change twice for each report."""


def _device(
    number: int, actor: bytes | None, desired: bytes, report: bytes, seen_s: float | None
) -> DeviceView:
    fields = {} if seen_s is None else _fields(report)
    state: Literal["running", "paused", "offline"] = "offline"
    if actor is not None:
        state = "running" if fields.get("state") == "running" else "paused"
    online = actor is not None
    tasks = _tasks(fields.get("tasks")) if online else ()
    return DeviceView(
        id=number,
        state=state,
        desired="running" if desired == b"running" else "paused",
        actor=text(actor),
        host=str(fields.get("host", "")),
        pid=_whole(fields.get("pid")),
        channel=_whole(fields.get("channel")),
        running=_whole(fields.get("running")) if online else 0,
        current=tasks[0][0] if tasks else "",
        current_s=tasks[0][1] if tasks else 0.0,
        tasks=tasks,
        done=_whole(fields.get("done")),
        errors=_whole(fields.get("errors", fields.get("failed"))),
        seen_s=seen_s,
        since_ms=_whole(fields.get("since_ms")),
        version=str(fields.get("version", "")),
        python=str(fields.get("python", "")),
        concurrency=_whole(fields.get("concurrency")),
        task_s=_seconds(fields.get("task_s")),
        timeout_s=_seconds(fields.get("timeout_s")),
    )


def _fields(report: bytes) -> dict[str, Any]:
    try:
        unpacked = wire.unpack(report[13:])
    except wire.Undecodable:
        return {}
    return unpacked if isinstance(unpacked, dict) else {}


def events(entries: list[bytes]) -> tuple[Event, ...]:
    """The entries of the event list; what is none is left out. An id is the time, and the place among its equals."""
    views: list[Event] = []
    at, place = 0, 0
    for entry in entries:
        try:
            level, who, what = wire.unpack(entry[13:])
            now = int(entry[:13])
        except (wire.Undecodable, TypeError, ValueError):
            continue
        at, place = (now, place + 1) if now == at else (now, 0)
        known = cast(EventLevel, level if level in ("info", "warning", "error") else "info")
        views.append(Event(f"{at}-{place}", at, known, in_words(who, 100), in_words(what, 500)))
    return tuple(views)


def channel_view(
    number: int, counts: list[Any], meta: dict[bytes, bytes], desired: dict[bytes, bytes], *,
    allotting: bool, rate: float, oldest_s: float | None,
) -> ChannelView:  # fmt: skip
    """One channel; `counts` are books, waiting, delayed, failed, results, claimed, the first item's header and the
    tally."""
    books, waiting, delayed, failed, results, claimed, _, tally = counts
    foreign = counted(tally, b"foreign")
    exhausted = books.get(b"exhausted") == b"1"
    results_max = int(meta.get(b"results_max", 0))
    halted = text(books.get(b"halted"))
    if not halted and results >= results_max and not exhausted:
        halted = f"{results:,} results wait to be drained (at most {results_max:,})"
    total = books.get(b"total")
    return ChannelView(
        id=number,
        capacity=int(books.get(b"capacity", 0)),
        waiting=waiting,
        claimed=claimed,
        delayed=delayed,
        done=counted(tally, b"done"),
        failed=failed,
        deleted=int(books.get(b"deleted", 0)),
        allotted=int(books.get(b"allotted", 0)) + foreign,
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
        errors=counted(tally, b"errors"),
    )


def counted(tally: dict[bytes, bytes], field: bytes) -> int:
    """A count that agents write; 0 where it is none."""
    value = tally.get(field, b"0")
    return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS_OF_COUNT else 0


def history_line(line: bytes) -> list[int] | None:
    """A line of a channel's history: ms, waiting, capacity, claimed, done, failed, allotted, count; None if broken."""
    try:
        numbers = [int(word) for word in line.split()]
    except ValueError:
        return None
    return numbers if len(numbers) == 8 else None


def text(value: bytes | None) -> str:
    """Bytes from Redis as text, whatever they are."""
    return (value or b"").decode("utf-8", "replace")


def _tasks(reported: Any) -> tuple[tuple[str, float], ...]:
    """What an agent says that it runs, if that is what it says."""
    entries = reported if isinstance(reported, list) else []
    pairs = [entry for entry in entries if isinstance(entry, list | tuple) and len(entry) == 2]
    return tuple((str(task), _seconds(seconds)) for task, seconds in pairs[:16])


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
