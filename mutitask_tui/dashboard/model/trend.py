"""What one snapshot cannot tell: rates of the last minutes, and whether failures grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from mutitask_tui.server.snapshot import Sample, Snapshot

BUCKET_MS = 2000
"""How long one point of a sparkline stands for."""

POINTS = 240
GROWTH_MS = 60_000
_SMOOTH_MS = 4000
_HOLE_MS = 30_000
"""Kept samples farther apart than this say nothing of the time between them."""
_STEADY_MS = 60_000
"""An ETA stands on the rate of so long: it must not jump."""


class Trend:
    """Grows with each snapshot and stays bounded. All times are the snapshots' own."""

    def __init__(self) -> None:
        self._points: dict[int, deque[tuple[int, float, int]]] = {}
        self._recent: dict[int, deque[tuple[int, float]]] = {}
        self._fails: deque[tuple[int, dict[int, int]]] = deque()
        self._runs: deque[tuple[int, dict[int, tuple[int, int]]]] = deque()
        self._settled_ms: dict[int, int] = {}
        self._run = ""

    def add(self, snapshot: Snapshot) -> None:
        """Take in one more snapshot; a new run begins afresh."""
        if snapshot.run != self._run:
            self._points.clear()
            self._recent.clear()
            self._fails.clear()
            self._runs.clear()
            self._settled_ms.clear()
            self._run = snapshot.run
        now = snapshot.now_ms
        for channel in snapshot.channels:
            self._add_rate(channel.id, now, channel.rate)
            if channel.rate > 0 or channel.id not in self._settled_ms:
                self._settled_ms[channel.id] = now
        self._runs.append((now, {c.id: (c.errors, c.done) for c in snapshot.channels}))
        self._fails.append((now, {c.id: c.failed for c in snapshot.channels}))
        for marks in (self._runs, self._fails):
            while len(marks) > 1 and marks[0][0] < now - GROWTH_MS:
                marks.popleft()

    def seed(self, history: Sequence[Sequence[Sample]]) -> None:
        """Put what was kept in Redis before the first snapshot that was added."""
        for channel, samples in enumerate(history):
            seen = self._points.get(channel)
            if not seen:
                continue
            before: dict[int, tuple[int, float, int]] = {}
            for first, last in pairwise(samples):
                if not 0 < last.at_ms - first.at_ms <= _HOLE_MS:
                    continue
                settled = max(0, last.done + last.failed - first.done - first.failed)
                rate = settled * 1000 / (last.at_ms - first.at_ms)
                for bucket in range(first.at_ms // BUCKET_MS + 1, last.at_ms // BUCKET_MS + 1):
                    before[bucket] = (bucket, rate, 1)
            older = [point for point in before.values() if point[0] < seen[0][0]]
            self._points[channel] = deque([*older, *seen], maxlen=POINTS)
        self._seed_fails(history)

    def _seed_fails(self, history: Sequence[Sequence[Sample]]) -> None:
        """How many had failed a minute ago: whoever attaches late sees at once that they grow."""
        if not self._fails:
            return
        since, counts = self._fails[0]
        ago = {
            channel: min(recent, key=lambda sample: sample.at_ms).failed
            for channel, samples in enumerate(history)
            if (recent := [s for s in samples if since - GROWTH_MS <= s.at_ms < since])
        }
        if ago:
            first = min(s.at_ms for samples in history for s in samples if s.at_ms >= since - GROWTH_MS)
            self._fails.appendleft((min(first, since), {**counts, **ago}))

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

    def steady_rate(self, channel: int) -> float:
        """The channel's mean rate of the last minute, or of as much of it as was seen."""
        points = self._points.get(channel, ())
        recent = list(points)[-_STEADY_MS // BUCKET_MS :]
        count = sum(count for _, _, count in recent)
        return sum(total for _, total, _ in recent) / count if count else 0.0

    def new_fails(self, channel: int | None = None) -> int:
        """How many failures more than a minute ago, of one channel or of all; 0 if fewer."""
        if not self._fails:
            return 0
        (_, before), (_, after) = self._fails[0], self._fails[-1]
        ids = after if channel is None else (channel,)
        return max(0, sum(after.get(i, 0) - before.get(i, 0) for i in ids))

    def new_runs(self, channel: int) -> tuple[int, int]:
        """How many of the channel's runs failed, and how many of its tasks were done, in the last minute."""
        if not self._runs:
            return 0, 0
        last = self._runs[-1][1].get(channel, (0, 0))
        first = self._runs[0][1].get(channel, last)
        return max(0, last[0] - first[0]), max(0, last[1] - first[1])

    def quiet_s(self, channel: int, now_ms: int) -> float:
        """For how many seconds nothing of the channel has been settled, as far as was seen."""
        return max(0, now_ms - self._settled_ms.get(channel, now_ms)) / 1000

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
