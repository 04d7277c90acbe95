"""The list of channels with their fill level, rate, state and counters."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from mutitask_tui.dashboard.formats import (
    Field,
    fill_bar,
    fit,
    keep_fields,
    rate_text,
    short_count,
    span,
    sparkline,
)
from mutitask_tui.dashboard.model.channel_order import FAULTS, ChannelRow
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import DensityGrid, Piece
from mutitask_tui.dashboard.widgets.channel_line import dense_line

_ROOMY_LINES = 2
"""The height of a roomy cell."""
_DENSE_CELL = 29
"""The smallest width of a dense cell."""
_NAME_WIDTH = 16
"""The width of the first column, in cells: the channel name, and the ETA below it."""


class ChannelList(DensityGrid[ChannelRow]):
    """Show each channel in two lines, or in one line (`dense`) if they do not all fit."""

    MIN_CELL_WIDTH: ClassVar[int] = 74

    column = "auto"
    """The column that the channels are sorted by. A dense line shows the value of this column."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cell_height = _ROOMY_LINES
        self._room = 0

    def key_of(self, item: ChannelRow) -> int:
        """Return the channel number."""
        return item.id

    def edge_style(self, item: ChannelRow) -> str:
        """Return the tone of the channel's fault if it has one, otherwise that of its state."""
        if not item.view.balanced:
            return "bad"
        if self.cell_height == 1 and item.fault:
            return FAULTS[item.fault][1]
        return item.state.tone

    @property
    def content_height(self) -> int:
        """The number of lines that all channels need."""
        return self.virtual_size.height

    @property
    def is_laid_out(self) -> bool:
        """Whether the list knows its size."""
        return bool(self._room and self.items and self.scrollable_content_region.width)

    def set_room(self, lines: int) -> None:
        """Set how many lines the list may take at most."""
        if lines != self._room:
            self._room = lines
            self._update_layout()

    def is_dense(self, count: int) -> bool:
        """Return whether `count` channels take one line each."""
        if self.dense is not None:
            return self.dense
        if not self.is_laid_out:
            return False
        columns = max(1, min(self.scrollable_content_region.width // self.MIN_CELL_WIDTH, count))
        return ceil(count / columns) * _ROOMY_LINES > max(self._room, _ROOMY_LINES)

    def show_column(self, column: str) -> None:
        """Set the column that the channels are sorted by."""
        if column != self.column:
            self.column = column
            self._update_layout()

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Use cells of two lines if they all fit, otherwise lines as wide as possible, but at least `_DENSE_CELL`."""
        count = len(self.items)
        if not self.is_dense(count):
            return self.columns_for(self.MIN_CELL_WIDTH, width), _ROOMY_LINES, 0
        most = self.columns_for(_DENSE_CELL, width)
        return min(most, max(1, ceil(count / max(1, self._room)))), 1, 0

    def cell_line(self, item: ChannelRow, line: int, width: int) -> list[Piece]:
        """Return the fill level, rate and state, or the counters; the most important of all if there is one line."""
        if self.cell_height == 1:
            return dense_line(item, width, self.column)
        return _flow_line(item, width) if line == 0 else _counters_line(item, width)

    def action_toggle_density(self) -> None:
        """Switch between two lines and one line for each channel."""
        self.dense = self.cell_height != 1
        self._update_layout()
        if self.cursor in self._index_by_key:
            self._scroll_to_row(self._index_by_key[self.cursor] // self.columns)


def _flow_line(row: ChannelRow, width: int) -> list[Piece]:
    channel = row.view
    name = fit(f" TaskChannel{channel.id}", _NAME_WIDTH)
    level = f" {short_count(channel.waiting)}/{short_count(channel.capacity)}"
    level = fit(level, 14)
    above_capacity = channel.waiting > channel.capacity
    if channel.halted:
        bar_width = max(6, width // 8)
        reason = f"{row.state.text}: {safe_str(channel.halted, 300)}"
        tail: list[Piece] = [(fit(reason, width - _NAME_WIDTH - bar_width - 14), "bad")]
    else:
        spark_width = min(40, max(8, width // 6))
        bar_width = width - _NAME_WIDTH - 14 - spark_width - 12 - 12
        state_width = max(12, len(row.state_text))
        bar_width -= state_width - 12
        tail = [
            (sparkline(row.points, spark_width), "faint"),
            (fit(rate_text(row.rate), 10, right=True) + "  ", "text"),
            (fit(row.state_text, state_width), row.state.tone),
        ]
    full, empty = fill_bar(channel.waiting, channel.capacity, bar_width)
    return [
        (name, "title"),
        (full, "warn" if above_capacity else "calm"),
        (empty, "faint"),
        (level, "warn" if above_capacity else "text"),
        *tail,
    ]


def _counters_line(row: ChannelRow, width: int) -> list[Piece]:
    channel = row.view
    fields: list[Field] = []
    if width >= 130 and row.eta_at:
        fields.append((1, [(fit(row.eta_at, 10), "faint")]))
    if channel.oldest_s is not None:
        fields.append((5, [("oldest ", "faint"), (f"{span(channel.oldest_s)}  ", "text")]))
    failed = _count(9, "failed", channel.failed, "warn")
    if row.new_fails:
        number, grown = short_count(channel.failed), short_count(row.new_fails)
        failed = (9, [("failed ", "faint"), (number, "loud"), (f" +{grown}  ", "bad")])
    fields += [_count(6, "claimed", channel.claimed), _count(4, "delayed", channel.delayed)]
    fields += [_count(8, "done", channel.done), failed]
    if channel.errors:
        fields.append(_count(7, "errors", channel.errors, "warn"))
    fields.append(_count(2, "deleted", channel.deleted))
    if channel.foreign:
        fields.append(_count(7, "foreign", channel.foreign, "warn"))
    fields.append(_count(3, "results", channel.results))
    fields.append(_count(4, "devices", row.devices))
    balance: Piece = ("✓ balanced" if width >= 96 else "✓", "good")
    if not channel.balanced:
        balance = ("✗ NOT BALANCED", "loud")
    eta: Piece = (fit(f" {row.eta}", _NAME_WIDTH), "calm")
    # On a wide screen the sign stands below the channel state, whose column has 12 cells.
    tail = 12 if channel.balanced and width >= 96 else len(balance[0])
    room = width - _NAME_WIDTH - tail - 1
    kept = keep_fields([f for f in fields if width >= 96 or f[0] > 0], room)
    padding = room + 1 - sum(len(text) for text, _ in kept)
    return [eta, *kept, (" " * padding, "text"), balance]


def _count(importance: int, word: str, number: int, style: str = "text") -> Field:
    """Return a counter as a field. A counter of 0 is the first to be left out of a narrow line."""
    weight = importance if number or word in ("done", "failed") else importance - 10
    return weight, [(f"{word} ", "faint"), (f"{short_count(number)}  ", style if number else "faint")]
