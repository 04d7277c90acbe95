"""The channels: how full, how fast, how many are done and failed, fed or not, balanced or not."""

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

_INDENT = 16
"""The cells of a channel's name, and of what stands under it."""


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel and what its last minutes tell."""

    view: ChannelView
    state: State
    rate: float
    points: tuple[float, ...]
    new_fails: int
    eta: str = ""
    """`done in 12 min`, where that is known."""
    eta_at: str = ""
    """`at 14:05`, likewise."""


def channel_rows(snapshot: Snapshot, trend: Trend) -> tuple[ChannelRow, ...]:
    """One row for each channel of the snapshot."""
    served = snapshot.server is not None
    alone = {channel.id for channel in unserved(snapshot)}
    rows = []
    for channel in snapshot.channels:
        eta = channel_eta(channel, trend, snapshot.now_ms)
        rows.append(
            ChannelRow(
                channel,
                channel_state(channel, served=served, has_device=channel.id not in alone),
                trend.rate(channel.id),
                tuple(trend.points(channel.id)),
                trend.new_fails(channel.id),
                eta.text if eta else "",
                eta.at_text if eta else "",
            )
        )
    return tuple(rows)


class ChannelList(CellGrid[ChannelRow]):
    """Channels in cells of two lines: what flows, and the books."""

    MIN_CELL_WIDTH: ClassVar[int] = 74

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cell_height = 2

    def key_of(self, item: ChannelRow) -> int:
        """A channel's number."""
        return item.view.id

    def edge_of(self, item: ChannelRow) -> str:
        """The tone of its state; books that do not balance overrule it."""
        return item.state.tone if item.view.balanced else "bad"

    @property
    def lines_wanted(self) -> int:
        """How many lines all channels take."""
        return self.virtual_size.height

    def cell_line(self, item: ChannelRow, line: int, width: int) -> list[Piece]:
        """The flow, then the books."""
        return _flow(item, width) if line == 0 else _books(item, width)


def _flow(row: ChannelRow, width: int) -> list[Piece]:
    channel = row.view
    name = fit(f" TaskChannel{channel.id}", _INDENT)
    level = f" {short_count(channel.waiting)}/{short_count(channel.capacity)}"
    level = fit(level, 14)
    over = channel.waiting > channel.capacity
    if channel.halted:
        bar_width = max(6, width // 8)
        reason = f"{row.state.text}: {safe_str(channel.halted, 300)}"
        tail: list[Piece] = [(fit(reason, width - _INDENT - bar_width - 14), "bad")]
    else:
        spark_width = min(40, max(8, width // 6))
        bar_width = width - _INDENT - 14 - spark_width - 12 - 12
        tail = [
            (sparkline(row.points, spark_width), "faint"),
            (fit(rate_text(row.rate), 10, right=True) + "  ", "text"),
            (fit(row.state.text, 12), row.state.tone),
        ]
    full, empty = fill_bar(channel.waiting, channel.capacity, bar_width)
    return [
        (name, "title"),
        (full, "warn" if over else "calm"),
        (empty, "faint"),
        (level, "warn" if over else "text"),
        *tail,
    ]


def _books(row: ChannelRow, width: int) -> list[Piece]:
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
    balance: Piece = ("✓ balanced" if width >= 96 else "✓", "good")
    if not channel.balanced:
        balance = ("✗ NOT BALANCED", "loud")
    eta: Piece = (fit(f" {row.eta}", _INDENT), "calm")
    # Under the feed's state, which takes 12 cells, where there is room for that.
    tail = 12 if channel.balanced and width >= 96 else len(balance[0])
    room = width - _INDENT - tail - 1
    kept = keep_fields([f for f in fields if width >= 96 or f[0] > 0], room)
    aside = room + 1 - sum(len(text) for text, _ in kept)
    return [eta, *kept, (" " * aside, "text"), balance]


def _count(importance: int, word: str, number: int, look: str = "text") -> Field:
    """A count with its word; one of nothing matters least."""
    weight = importance if number or word in ("done", "failed") else importance - 10
    return weight, [(f"{word} ", "faint"), (f"{short_count(number)}  ", look if number else "faint")]
