"""Chooses which channels the list shows and in which order: faults first, filter, sort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mutitask_tui.dashboard.model.eta import channel_eta
from mutitask_tui.dashboard.model.list_options import Column, ListOptions
from mutitask_tui.dashboard.model.states import State, Tone, channel_state
from mutitask_tui.dashboard.model.text_filter import matcher
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.server.snapshot import ChannelView, Snapshot
from mutitask_tui.server.troubles import unserved

FAULTS: dict[str, tuple[str, Tone, str]] = {
    "not balanced": ("✗", "bad", "is not balanced"),
    "halted": ("✗", "bad", "is halted"),
    "no device": ("!", "bad", "has no device"),
    "failing": ("✗", "warn", "is failing"),
    "with failed tasks": ("✗", "warn", "has failed tasks"),
    "paused": ("‖", "warn", "is paused"),
}
"""What can be wrong with a channel, the worst first: its glyph, its tone, and the words behind the channel's name."""

_SEVERITY = {fault: place for place, fault in enumerate(FAULTS)}


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
    note: str = ""
    """What limits a channel that works, in place of its state; '' if nothing does."""

    @property
    def id(self) -> int:
        """The channel's number."""
        return self.view.id

    @property
    def fault(self) -> str:
        """The worst that is wrong with the channel, a word of `FAULTS`; '' if nothing is."""
        if not self.view.balanced:
            return "not balanced"
        if self.state.word in ("halted", "no device"):
            return self.state.word
        if self.new_fails:
            return "failing"
        if self.view.failed:
            return "with failed tasks"
        return "paused" if self.view.paused else ""

    @property
    def state_text(self) -> str:
        """The glyph, and the word of the state or the note."""
        noted = self.note and self.state.tone in ("good", "calm")
        return f"{self.state.glyph} {self.note}" if noted else self.state.text


def _worst_first(row: ChannelRow) -> tuple[int, int]:
    return _SEVERITY.get(row.fault, len(FAULTS)), row.id


SORTS: dict[str, Column] = {
    "auto": ("number", lambda row: row.id, False),
    "fault": ("fault", _worst_first, False),
    "channel": ("number", lambda row: row.id, False),
    "state": ("state", lambda row: row.state.word, False),
    "rate": ("rate", lambda row: row.rate, True),
    "waiting": ("waiting", lambda row: row.view.waiting, True),
    "age": ("oldest task", lambda row: -1.0 if row.view.oldest_s is None else row.view.oldest_s, True),
    "done": ("done", lambda row: row.view.done, True),
    "failed": ("failed", lambda row: row.view.failed, True),
    "errors": ("errors", lambda row: row.view.errors, True),
    "devices": ("devices", lambda row: row.devices, True),
}
"""The columns by their names in the config file."""


@dataclass(frozen=True, slots=True)
class ChannelListOptions(ListOptions):
    """How the list of channels filters and sorts."""

    SORTS: ClassVar[Mapping[str, Column]] = SORTS
    DEFAULT: ClassVar[str] = "auto"

    sort: str = "auto"
    """A column of `SORTS`. `auto` is by number, or the worst fault first if the list is dense."""

    @property
    def reversed_sort(self) -> str:
        """The same column in the opposite direction; by number if the order is `auto`."""
        if self.sort == "auto":
            return "-channel"
        return self.sort[1:] if self.descending else f"-{self.sort}"


@dataclass(frozen=True, slots=True)
class ListedChannels:
    """The channels of a snapshot that the list shows."""

    rows: tuple[ChannelRow, ...]
    faults: Mapping[str, int]
    """How many channels have each fault, shown or not, the worst fault first."""
    hidden: int
    """The number of channels that a filter hides."""


NO_CHANNELS = ListedChannels((), {}, 0)


def list_channels(snapshot: Snapshot, trend: Trend, options: ChannelListOptions) -> ListedChannels:
    """Return the rows to show, by number. `in_order` sorts them."""
    rows = channel_rows(snapshot, trend)
    counts = Counter(row.fault for row in rows)
    fits = matcher(options.filter_text) if options.filter_text.strip() else None
    shown = tuple(
        row
        for row in rows
        if (row.fault or not options.faults_only) and (fits is None or fits(_text(row).casefold()))
    )
    faults = {fault: counts[fault] for fault in FAULTS if counts[fault]}
    return ListedChannels(shown, faults, len(rows) - len(shown))


def in_order(rows: Sequence[ChannelRow], options: ChannelListOptions, *, dense: bool) -> Sequence[ChannelRow]:
    """Return the rows in the order of the options. `dense` is whether each channel takes one line."""
    column = ("fault" if dense else "channel") if options.column == "auto" else options.column
    return sorted(rows, key=SORTS[column][1], reverse=options.descending)


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
                _note(channel),
            )
        )
    return tuple(rows)


def _note(channel: ChannelView) -> str:
    """Return the rate limit, as long as the channel has tasks that it can hold back."""
    holds_back = channel.rate_limit and (channel.open or not channel.exhausted)
    return f"limited {channel.rate_limit}" if holds_back else ""


def _text(row: ChannelRow) -> str:
    return f"taskchannel{row.id} {row.state_text} {row.fault} {row.view.halted}"
