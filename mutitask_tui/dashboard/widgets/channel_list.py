"""The channels: how full, how fast, how many are done and failed, fed or not, balanced or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mutitask_tui.dashboard.eta import channel_eta
from mutitask_tui.dashboard.formats import fill_bar, fit, rate_text, short_count, span, sparkline
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.states import State, channel_state
from mutitask_tui.dashboard.trend import Trend
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import ChannelView, Snapshot

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
    rows = []
    for channel in snapshot.channels:
        eta = channel_eta(channel, trend, snapshot.now_ms)
        rows.append(
            ChannelRow(
                channel,
                channel_state(channel, served=served),
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
    pieces: list[Piece] = [(fit(f" {row.eta}", _INDENT), "calm")]
    if width >= 130:
        pieces.append((fit(row.eta_at, 10), "faint"))
    if channel.oldest_s is not None:
        pieces.append(("oldest ", "faint"))
        pieces.append((f"{span(channel.oldest_s)}  ", "text"))
    _count(pieces, "claimed", channel.claimed, "text")
    if channel.delayed or width >= 96:
        _count(pieces, "delayed", channel.delayed, "text")
    _count(pieces, "done", channel.done, "text")
    _count(pieces, "failed", channel.failed, "warn" if channel.failed else "text")
    if row.new_fails:
        pieces[-1] = (pieces[-1][0].rstrip(), "loud")
        pieces.append((f" +{short_count(row.new_fails)}  ", "bad"))
    if channel.deleted or width >= 96:
        _count(pieces, "deleted", channel.deleted, "text")
    if channel.foreign:
        _count(pieces, "foreign", channel.foreign, "warn")
    if channel.results or width >= 96:
        _count(pieces, "results", channel.results, "text")
    balance = ("✓ balanced" if width >= 96 else "✓", "good")
    if not channel.balanced:
        balance = ("✗ NOT BALANCED", "loud")
    used = sum(len(text) for text, _ in pieces)
    if used + len(balance[0]) > width:
        pieces = _cut(pieces, width - len(balance[0]) - 1)
        used = sum(len(text) for text, _ in pieces)
    pieces.append((" " * max(0, width - used - 12), "text") if width >= 96 else ("", "text"))
    return [*pieces, balance]


def _count(pieces: list[Piece], word: str, number: int, look: str) -> None:
    pieces.append((f"{word} ", "faint"))
    pieces.append((f"{short_count(number)}  ", look if number else "faint"))


def _cut(pieces: list[Piece], width: int) -> list[Piece]:
    """As much of the pieces as fits, so that the balance always does."""
    kept: list[Piece] = []
    for text, look in pieces:
        kept.append((text[: max(0, width)], look))
        width -= len(text)
    return kept
