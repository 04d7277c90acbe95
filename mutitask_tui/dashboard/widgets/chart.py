"""A chart of one series over time, in braille dots.

It uses the line API: 120 x 12 cells take about a third of a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log10
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from mutitask_tui.dashboard.model.history import Series
from worker_agent.protocol.unpatched import time

Kind = Literal["rate", "fill", "fails"]

_LEFT_DOTS = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT_DOTS = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_CELLS = [[chr(0x2800 + left + right) for right in _RIGHT_DOTS] for left in _LEFT_DOTS]
"""The braille character for two columns of dots: `_CELLS[left][right]`, each 0 to 4 dots high from the bottom.

The empty cell is a braille character too, so that SVG screenshots give it the same width as the others."""

AXIS_WIDTH = 10
"""The width of the labels and the axis at the left, in cells."""
_ROUND_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
_TICK_MINUTES = (1, 2, 5, 10, 15, 20, 30, 60)


class Chart(Widget):
    """Show one series as a filled curve, with a scale at the left and optionally the time below."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--rate", "chart--fill", "chart--fails", "chart--axis"}
    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        & > .chart--rate { color: $primary; }
        & > .chart--fill { color: $success; }
        & > .chart--fails { color: $error; }
        & > .chart--axis { color: $foreground 55%; }
    }
    """

    def __init__(self, kind: Kind, label: Callable[[float], str], *, min_top: float, id: str) -> None:
        """Create a chart.

        `kind` selects the colour. `label` formats a value in at most 9 cells. `min_top` is the lowest value
        at which the scale ends.
        """
        super().__init__(id=id)
        self._kind = kind
        self._label = label
        self._min_top = min_top
        self._series = Series(0, 1, ())
        self._lines: list[tuple[str, str]] | None = None
        self.times = True
        """Whether the time is shown below the curve."""

    @property
    def steps(self) -> int:
        """The number of values that fit into the width, at least 2."""
        return max(2, 2 * (self.content_region.width - AXIS_WIDTH))

    def show(self, series: Series, *, times: bool) -> None:
        """Show this series. Draws only if `series` or `times` changed."""
        if series != self._series or times != self.times:
            self._series, self.times = series, times
            self._lines = None
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return line `y` of the chart."""
        if self._lines is None:
            self._lines = self._draw()
        width = self.content_region.width
        if y >= len(self._lines):
            return Strip.blank(width, self._style("axis"))
        head, body = self._lines[y]
        is_time_axis = self.times and y == len(self._lines) - 1
        segments = [
            Segment(head, self._style("axis")),
            Segment(body, self._style("axis" if is_time_axis else self._kind)),
        ]
        return Strip(segments).adjust_cell_length(width, self._style("axis"))

    def on_resize(self) -> None:
        """Draw again for the new size."""
        self._lines = None

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"chart--{part}")

    def _draw(self) -> list[tuple[str, str]]:
        """Return (label and axis, curve) for each line."""
        width, height = self.content_region.size
        rows, cells = height - self.times, width - AXIS_WIDTH
        if rows < 1 or cells < 4:
            return []
        top = round_up(max(self._series.top, self._min_top))
        body = plot(self._series.values, top, cells, rows)
        labels = {0: top, rows // 2: top / 2} if rows >= 4 else {0: top}
        lines: list[tuple[str, str]] = []
        for row in range(rows):
            # A label is the value at the upper edge of its row.
            text = self._label(labels[row]) if row in labels and not row % (rows / 2 or 1) else ""
            lines.append((f"{text[: AXIS_WIDTH - 1]:>{AXIS_WIDTH - 1}}{'┤' if text else '│'}", body[row]))
        if self.times:
            lines.append((f"{self._label(0.0):>{AXIS_WIDTH - 1}}└", time_axis(self._series, cells)))
        return lines


def plot(values: tuple[float | None, ...], top: float, cells: int, rows: int) -> list[str]:
    """Return the curve as `rows` lines of `cells` characters.

    The value 0 is one dot high. An unknown value (None) is blank.
    """
    dots = 4 * rows
    heights = [
        0 if value is None else max(1, min(dots, round(value / top * dots))) for value in values[-2 * cells :]
    ]
    heights = [0] * (2 * cells - len(heights)) + heights
    pairs = list(zip(heights[::2], heights[1::2], strict=True))
    lines = []
    for row in range(rows - 1, -1, -1):
        part = [min(4, max(0, height - 4 * row)) for height in range(dots + 1)]
        lines.append("".join([_CELLS[part[a]][part[b]] for a, b in pairs]))
    return lines


def round_up(value: float) -> float:
    """Return the smallest round number that is not below `value`."""
    size: float = 10.0 ** (ceil(log10(value)) - 1) if value > 0 else 0.1
    return next(size * step for step in _ROUND_STEPS if size * step >= value * 0.9999)


def time_axis(series: Series, cells: int) -> str:
    """Return a line with as many local times at round minutes as fit into `cells`."""
    line = ["─"] * cells
    span_ms = series.step_ms * len(series.values)
    if not span_ms:
        return "".join(line)
    minutes = span_ms / 60_000
    every = next((n for n in _TICK_MINUTES if minutes / n * 9 <= cells), 60)
    # Round by the local clock, because some time zones are not whole hours from UTC.
    offset_ms = time.localtime(series.first_ms / 1000).tm_gmtoff * 1000
    tick = -(-(series.first_ms + offset_ms) // (every * 60_000)) * every * 60_000 - offset_ms
    while tick < series.last_ms:
        text = time.strftime("%H:%M", time.localtime(tick / 1000))
        column = round((tick - series.first_ms) / span_ms * cells) - 2
        if 0 <= column <= cells - len(text):
            line[column : column + len(text)] = text
        tick += every * 60_000
    return "".join(line)
