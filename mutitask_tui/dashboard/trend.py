"""What one snapshot cannot tell: rates of the last minutes, and whether failures grow."""

from __future__ import annotations

from collections import deque

from mutitask_tui.server.snapshot import Snapshot

BUCKET_MS = 2000
"""How long one point of a sparkline stands for."""

POINTS = 240
GROWTH_MS = 60_000
_SMOOTH_MS = 4000


class Trend:
    """Grows with each snapshot and stays bounded. All times are the snapshots' own."""

    def __init__(self) -> None:
        self._points: dict[int, deque[tuple[int, float, int]]] = {}
        self._recent: dict[int, deque[tuple[int, float]]] = {}
        self._fails: deque[tuple[int, dict[int, int]]] = deque()
        self._run = ""

    def add(self, snapshot: Snapshot) -> None:
        """Take in one more snapshot; a new run begins afresh."""
        if snapshot.run != self._run:
            self._points.clear()
            self._recent.clear()
            self._fails.clear()
            self._run = snapshot.run
        now = snapshot.now_ms
        for channel in snapshot.channels:
            self._add_rate(channel.id, now, channel.rate)
        self._fails.append((now, {c.id: c.failed for c in snapshot.channels}))
        while len(self._fails) > 1 and self._fails[0][0] < now - GROWTH_MS:
            self._fails.popleft()

    def points(self, channel: int) -> list[float]:
        """The channel's mean rates, oldest first, one for each `BUCKET_MS`."""
        return [total / count for _, total, count in self._points.get(channel, ())]

    def all_points(self) -> list[float]:
        """The whole namespace's mean rates, oldest first."""
        sums: dict[int, float] = {}
        for points in self._points.values():
            for bucket, total, count in points:
                sums[bucket] = sums.get(bucket, 0.0) + total / count
        return [sums[bucket] for bucket in sorted(sums)]

    def rate(self, channel: int) -> float:
        """The channel's rate, smoothed over a few seconds so that it can be read."""
        recent = self._recent.get(channel, ())
        return sum(rate for _, rate in recent) / len(recent) if recent else 0.0

    def total_rate(self) -> float:
        """The whole namespace's rate, smoothed likewise."""
        return sum(self.rate(channel) for channel in self._recent)

    def new_fails(self, channel: int | None = None) -> int:
        """How many failures more than a minute ago, of one channel or of all; 0 if fewer."""
        if not self._fails:
            return 0
        (_, before), (_, after) = self._fails[0], self._fails[-1]
        ids = after if channel is None else (channel,)
        return max(0, sum(after.get(i, 0) - before.get(i, 0) for i in ids))

    def _add_rate(self, channel: int, now: int, rate: float) -> None:
        points = self._points.setdefault(channel, deque(maxlen=POINTS))
        bucket = now // BUCKET_MS
        if points and points[-1][0] == bucket:
            _, total, count = points.pop()
            points.append((bucket, total + rate, count + 1))
        else:
            points.append((bucket, rate, 1))
        recent = self._recent.setdefault(channel, deque())
        recent.append((now, rate))
        while recent[0][0] < now - _SMOOTH_MS:
            recent.popleft()
