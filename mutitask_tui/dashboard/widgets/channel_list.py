"""The list of channels with their fill level, rate, state and counters."""

from __future__ import annotations

from dataclasses import dataclass
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
from mutitask_tui.dashboard.model.eta import channel_eta
from mutitask_tui.dashboard.model.states import State, channel_state
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import ChannelView, Snapshot
from mutitask_tui.server.troubles import unserved

_NAME_WIDTH = 16
"""The width of the first column, in cells: the channel name, and the ETA below it."""


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel and its figures of the last minutes."""

    view: ChannelView
    state: State
    rate: float
    """Settled tasks per second, smoothed."""
    points: tuple[float, ...]
    """The rates of the sparkline, oldest first."""
    new_fails: int
    """How many tasks failed in the last minute."""
    devices: int = 0
    """How many devices serve it."""
    eta: str = ""
    """Such as `done in 12 min`; empty if unknown."""
    eta_at: str = ""
    """Such as `at 14:05`; empty if unknown."""


def channel_rows(snapshot: Snapshot, trend: Trend) -> tuple[ChannelRow, ...]:
    """Return one row for each channel of the snapshot."""
    served = snapshot.server is not None
    without_device = {channel.id for channel in unserved(snapshot)}
    rows = []
    for channel, devices in zip(snapshot.channels, snapshot.device_counts, strict=True):
        eta = channel_eta(channel, trend, snapshot.now_ms)
        rows.append(
            ChannelRow(
                channel,
                channel_state(channel, served=served, has_device=channel.id not in without_device),
                trend.rate(channel.id),
                tuple(trend.points(channel.id)),
                trend.new_fails(channel.id),
                devices,
                eta.text if eta else "",
                eta.at_text if eta else "",
            )
        )
    return tuple(rows)


class ChannelList(CellGrid[ChannelRow]):
    """Show each channel in two lines: its fill level, rate and state, then its counters."""

    MIN_CELL_WIDTH: ClassVar[int] = 74

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cell_height = 2

    def key_of(self, item: ChannelRow) -> int:
        """Return the channel number."""
        return item.view.id

    def edge_style(self, item: ChannelRow) -> str:
        """Return the tone of the channel's state, or `bad` if its counters are not balanced."""
        return item.state.tone if item.view.balanced else "bad"

    @property
    def content_height(self) -> int:
        """The number of lines that all channels need."""
        return self.virtual_size.height

    def cell_line(self, item: ChannelRow, line: int, width: int) -> list[Piece]:
        """Return the first line (fill level, rate, state) or the second line (counters)."""
        return _flow_line(item, width) if line == 0 else _counters_line(item, width)


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
        tail = [
            (sparkline(row.points, spark_width), "faint"),
            (fit(rate_text(row.rate), 10, right=True) + "  ", "text"),
            (fit(row.state.text, 12), row.state.tone),
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
