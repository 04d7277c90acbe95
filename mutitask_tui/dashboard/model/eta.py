"""When it will be done, where that can be known: the number of tasks and a rate that has held for a while."""

from __future__ import annotations

from dataclasses import dataclass

from mutitask_tui.dashboard.formats import about, clock_minutes
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.server.snapshot import ChannelView, Snapshot

_AT_MOST_S = 366 * 86400
"""Beyond a year a forecast tells nothing."""
_QUIET_S = 5.0
_QUIET_GAPS = 4.0
"""Where nothing is settled for so many mean gaps between two tasks, and no less than so long, it stands still."""


@dataclass(frozen=True, slots=True)
class Eta:
    """How far a channel or the whole namespace is, and when it will be done."""

    share: float
    """Of all its tasks, from 0 to 1: those that are done, failed or deleted."""
    seconds: float | None
    """Until it is done; None while nothing is settled, or nothing any more."""
    at_ms: int

    @property
    def text(self) -> str:
        """`done in 12 min`, or '' if nobody knows."""
        return f"done in {about(self.seconds)}" if self.seconds is not None else ""

    @property
    def at_text(self) -> str:
        """`at 14:05`, or ''."""
        return f"at {clock_minutes(self.at_ms)}" if self.seconds is not None else ""

    @property
    def share_text(self) -> str:
        """`43%`; never 100 before the end."""
        return f"{min(99, int(self.share * 100)) if self.share < 1 else 100}%"


def channel_eta(channel: ChannelView, trend: Trend, now_ms: int) -> Eta | None:
    """A channel's; None where nobody knows how many tasks there will be, or where all are settled."""
    total = _total(channel)
    if total is None or not total:
        return None
    settled = channel.done + channel.failed + channel.deleted
    left = max(total - settled, channel.open)
    if left <= 0:
        return None
    rate = trend.steady_rate(channel.id)
    stands_still = rate > 0 and trend.quiet_s(channel.id, now_ms) > max(_QUIET_S, _QUIET_GAPS / rate)
    seconds = left / rate if rate > 0 and not stands_still and left / rate < _AT_MOST_S else None
    return Eta(settled / (settled + left), seconds, now_ms + round((seconds or 0) * 1000))


def whole_eta(snapshot: Snapshot, trend: Trend) -> Eta | None:
    """The whole namespace's: that of the channel that will be last; None if one of them is unknown."""
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
    """How many tasks there will be: what the job said, but no fewer than there are; all, once exhausted."""
    if channel.exhausted:
        return channel.allotted
    return None if channel.total is None else max(channel.total, channel.allotted)
