"""Formats numbers, times and table cells as short text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len, chop_cells

from worker_agent.protocol.text import size_text as size_text
from worker_agent.protocol.unpatched import time

_BLOCKS = " ▁▂▃▄▅▆▇█"


def short_count(number: int, exact_below: int = 100_000) -> str:
    """Format a number in at most 7 cells: exact if it is small, else 123k, 1.23M."""
    if number < exact_below:
        return f"{number:,}"
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if number < 1000 * size:
            scaled = number / size
            digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.1e}"


def amount(value: float) -> str:
    """Format an amount of work that a task tells: `1,200`, `0.25`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def rate_text(rate: float) -> str:
    """Format a number of tasks per second: `0.4/s`, `12,345/s`."""
    return f"{rate:.1f}/s" if 0 < rate < 10 else f"{short_count(round(rate))}/s"


def span(seconds: float) -> str:
    """Format a duration: `0.3s`, `12s`, `3m 05s`, `2h 04m`, `3d 02h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def age(seconds: float) -> str:
    """Format a duration that is known only to the second: `0s`, `12s`, `3m 05s`."""
    return span(seconds) if seconds >= 9.95 else f"{max(0.0, seconds):.0f}s"


def took(seconds: float) -> str:
    """Format the time that something took: `40 ms`, `1.2s`, `12s`."""
    return f"{max(1, round(seconds * 1000))} ms" if seconds < 0.9995 else span(seconds)


def seen_text(seen_s: float | None) -> str:
    """Format how long ago a device last reported."""
    if seen_s is None:
        return "never seen"
    return f"{age(seen_s)} ago" if seen_s >= 1 else "just now"


def clock(at_ms: int) -> str:
    """Format a local time of day as HH:MM:SS. `zone` names the time zone."""
    return time.strftime("%H:%M:%S", _local(at_ms))


def clock_minutes(at_ms: int) -> str:
    """Format a local time of day as HH:MM."""
    return time.strftime("%H:%M", _local(at_ms))


def utc_clock(at_ms: int) -> str:
    """Format the time of day in UTC as HH:MM:SS."""
    return utc_stamp(at_ms)[11:]


def utc_stamp(at_ms: int) -> str:
    """Format a moment in UTC as an agent's log does: `2026-11-24 03:00:12`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", _moment(time.gmtime, at_ms))


def zone(at_ms: int) -> str:
    """Return the local time zone at that moment: `UTC`, `CEST`."""
    return _local(at_ms).tm_zone or "local time"


def when(at_ms: int, now_ms: int) -> str:
    """Format a moment with its time zone, and with its date if that is not today."""
    at, now = _local(at_ms), _local(now_ms)
    form = "%H:%M:%S" if at[:3] == now[:3] else "%Y-%m-%d %H:%M:%S"
    return f"{time.strftime(form, at)} {zone(at_ms)}"


def about(seconds: float) -> str:
    """Format a duration in the future: `8 s`, `12 min`, `2h 04m`, `3d 02h`."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 3570 else span(seconds)


def _local(at_ms: int) -> time.struct_time:
    return _moment(time.localtime, at_ms)


def _moment(convert: Callable[[float], time.struct_time], at_ms: int) -> time.struct_time:
    """Convert a time; the epoch for a number that is out of range, since anyone can write one into Redis."""
    try:
        return convert(at_ms / 1000)
    except (ValueError, OverflowError, OSError):
        return convert(0)


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw the last `width` values as blocks, right-aligned and scaled to the largest of them."""
    shown = values[-width:] if width > 0 else ()
    top = max(shown, default=0.0)
    if top <= 0:
        return ("▁" * len(shown)).rjust(width)
    return "".join(_BLOCKS[1 + min(7, int(value / top * 7.999))] for value in shown).rjust(width)


def fill_bar(part: float, whole: float, width: int) -> tuple[str, str]:
    """Return the full and the empty part of a bar of `width` cells. The bar is full if `part` exceeds `whole`."""
    share = min(1.0, part / whole) if whole > 0 else (1.0 if part else 0.0)
    full = round(share * width)
    if part and not full:
        full = min(1, width)
    return "━" * full, "─" * (width - full)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        head = chop_cells(text, width - 1)[0] if width > 1 else ""
        text = f"{head}…"
        length = cell_len(text)
    padding = " " * (width - length)
    return padding + text if right else text + padding


def fit_end(text: str, width: int) -> str:
    """Do the same, but keep the end of an address or a path: it says more than the start."""
    if text.startswith(("/", "http", "'/", "'http")) and len(text) > width > 1:
        return fit("…" + text[-(width - 1) :], width)
    return fit(text, width)


Field = tuple[int, list[tuple[str, str]]]
"""The priority of a field in a line, and its pieces: each a text and its style."""


def keep_fields(fields: Sequence[Field], width: int) -> list[tuple[str, str]]:
    """Return the pieces of the fields that fit into `width` cells. Fields of low priority are left out whole."""
    kept = list(range(len(fields)))
    room = width - sum(cell_len(text) for _, pieces in fields for text, _ in pieces)
    while kept and room < 0:
        least = min(kept, key=lambda place: (fields[place][0], -place))
        kept.remove(least)
        room += sum(cell_len(text) for text, _ in fields[least][1])
    return [piece for place in kept for piece in fields[place][1]]
