"""Numbers, spans of time and cells as short text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

_BLOCKS = " ▁▂▃▄▅▆▇█"


def short_count(number: int, exact_below: int = 100_000) -> str:
    """`number` in at most 7 cells: exact where it is small, then 123k, 1.23M."""
    if number < exact_below:
        return f"{number:,}"
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9)):
        if number < 1000 * size:
            scaled = number / size
            digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.1e}"


def rate_text(rate: float) -> str:
    """Tasks a second, such as `0.4/s` or `12,345/s`."""
    return f"{rate:.1f}/s" if 0 < rate < 10 else f"{short_count(round(rate))}/s"


def span(seconds: float) -> str:
    """How long: `0.3s`, `12s`, `3m 05s`, `2h 04m`, `3d 02h`."""
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


def seen_text(seen_s: float | None) -> str:
    """When a device last reported."""
    return "never seen" if seen_s is None else f"{span(seen_s)} ago"


def clock(at_ms: int) -> str:
    """The time of day, HH:MM:SS in UTC, so that dashboards on several machines agree."""
    seconds = at_ms // 1000 % 86400
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as blocks, flush right, scaled to the highest of them."""
    shown = values[-width:] if width > 0 else ()
    top = max(shown, default=0.0)
    if top <= 0:
        return ("▁" * len(shown)).rjust(width)
    return "".join(_BLOCKS[1 + min(7, int(value / top * 7.999))] for value in shown).rjust(width)


def fill_bar(part: int, whole: int, width: int) -> tuple[str, str]:
    """The full and the empty part of a bar of `width` cells; a full bar for what stands above `whole`."""
    share = min(1.0, part / whole) if whole > 0 else (1.0 if part else 0.0)
    full = round(share * width)
    if part and not full:
        full = min(1, width)
    return "━" * full, "─" * (width - full)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        head = chop_cells(text, width - 1)[0] if width > 1 else ""
        text = f"{head}…"
        length = cell_len(text)
    padding = " " * (width - length)
    return padding + text if right else text + padding


def plural(number: int, noun: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
