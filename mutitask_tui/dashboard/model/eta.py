"""Estimates when the work will be done, from the number of tasks and the rate of the last minute."""

from __future__ import annotations

from dataclasses import dataclass

from mutitask_tui.dashboard.formats import about, clock_minutes
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.server.snapshot import ChannelView, Snapshot

_MAX_S = 366 * 86400
"""An estimate of more than a year is not useful."""
_QUIET_S = 5.0
_QUIET_GAPS = 4.0
"""The work has stalled if nothing was settled for `_QUIET_S` and for this many mean gaps between two tasks."""


@dataclass(frozen=True, slots=True)
class Eta:
    """The progress of a channel or of the whole namespace, and when it will be done."""

    share: float
    """The share of the tasks that are done, failed or deleted, from 0 to 1."""
    seconds: float | None
    """Seconds until it is done; None while no tasks are settled."""
    at_ms: int

    @property
    def text(self) -> str:
        """`done in 12 min`; '' if it is unknown."""
        return f"done in {about(self.seconds)}" if self.seconds is not None else ""

    @property
    def at_text(self) -> str:
        """`at 14:05`; '' if it is unknown."""
        return f"at {clock_minutes(self.at_ms)}" if self.seconds is not None else ""

    @property
    def share_text(self) -> str:
        """`43%`; 100% only at the end."""
        return f"{min(99, int(self.share * 100)) if self.share < 1 else 100}%"


def channel_eta(channel: ChannelView, trend: Trend, now_ms: int) -> Eta | None:
    """Return a channel's estimate; None if the number of tasks is unknown or all are settled."""
    total = _total(channel)
    if total is None or not total:
        return None
    settled = channel.done + channel.failed + channel.deleted
    left = max(total - settled, channel.open)
    if left <= 0:
        return None
    rate = trend.steady_rate(channel.id)
    stalled = rate > 0 and trend.quiet_s(channel.id, now_ms) > max(_QUIET_S, _QUIET_GAPS / rate)
    seconds = left / rate if rate > 0 and not stalled and left / rate < _MAX_S else None
    return Eta(settled / (settled + left), seconds, now_ms + round((seconds or 0) * 1000))


def whole_eta(snapshot: Snapshot, trend: Trend) -> Eta | None:
    """Return the namespace's estimate: that of the slowest channel. None if the number of tasks is unknown."""
    totals = [_total(channel) for channel in snapshot.channels]
    if None in totals:
        return None
    etas = [eta for c in snapshot.channels if (eta := channel_eta(c, trend, snapshot.now_ms)) is not None]
    if not etas:
        return None
    settled = sum(c.done + c.failed + c.deleted for c in snapshot.channels)
    left = sum(max((_total(c) or 0) - c.done - c.failed - c.deleted, c.open) for c in snapshot.channels)
    spans = [eta.seconds for eta in etas]
    seconds = None if None in spans else max(s for s in spans if s is not None)
    at_ms = snapshot.now_ms + round((seconds or 0) * 1000)
    return Eta(settled / max(1, settled + max(0, left)), seconds, at_ms)


def _total(channel: ChannelView) -> int | None:
    """Return the number of tasks: what the job says, but at least what was allotted; exact once exhausted."""
    if channel.exhausted:
        return channel.allotted
    return None if channel.total is None else max(channel.total, channel.allotted)
