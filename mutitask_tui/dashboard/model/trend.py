"""Compares snapshots: the rates of the last minutes, and whether the number of failures grows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from mutitask_tui.server.snapshot import Sample, Snapshot

BUCKET_MS = 2000
"""The time that one point of a sparkline covers."""

POINTS = 240
GROWTH_MS = 60_000
_SMOOTH_MS = 4000
_GAP_MS = 30_000
"""Stored samples farther apart than this say nothing about the time between them."""
_STEADY_MS = 60_000
"""The span of the rate behind an ETA. It is long so that the ETA does not jump."""


class Trend:
    """Keeps the rates and counts of the last minutes. All times are the snapshots' own."""

    def __init__(self) -> None:
        self._points: dict[int, deque[tuple[int, float, int]]] = {}
        self._recent: dict[int, deque[tuple[int, float]]] = {}
        self._fails: deque[tuple[int, dict[int, int]]] = deque()
        self._runs: deque[tuple[int, dict[int, tuple[int, int]]]] = deque()
        self._settled_ms: dict[int, int] = {}
        self._run = ""

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot. A new run discards what is known of the former one."""
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
        """Add the samples stored in Redis, before the first snapshot that was added."""
        for channel, samples in enumerate(history):
            seen = self._points.get(channel)
            if not seen:
                continue
            before: dict[int, tuple[int, float, int]] = {}
            for first, last in pairwise(samples):
                if not 0 < last.at_ms - first.at_ms <= _GAP_MS:
                    continue
                settled = max(0, last.done + last.failed - first.done - first.failed)
                rate = settled * 1000 / (last.at_ms - first.at_ms)
                for bucket in range(first.at_ms // BUCKET_MS + 1, last.at_ms // BUCKET_MS + 1):
                    before[bucket] = (bucket, rate, 1)
            older = [point for point in before.values() if point[0] < seen[0][0]]
            self._points[channel] = deque([*older, *seen], maxlen=POINTS)
        self._seed_fails(history)

    def _seed_fails(self, history: Sequence[Sequence[Sample]]) -> None:
        """Add the number of failed tasks a minute ago, so that a new view sees at once whether it grows."""
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
        """Return the channel's mean rates, oldest first, one for each `BUCKET_MS`."""
        return [total / count for _, total, count in self._points.get(channel, ())]

    def all_points(self) -> list[float]:
        """Return the whole namespace's mean rates, oldest first."""
        sums: dict[int, float] = {}
        for points in self._points.values():
            for bucket, total, count in points:
                sums[bucket] = sums.get(bucket, 0.0) + total / count
        return [sums[bucket] for bucket in sorted(sums)]

    def rate(self, channel: int) -> float:
        """Return the channel's rate, averaged over a few seconds so that it can be read."""
        recent = self._recent.get(channel, ())
        return sum(rate for _, rate in recent) / len(recent) if recent else 0.0

    def total_rate(self) -> float:
        """Return the whole namespace's rate, averaged in the same way."""
        return sum(self.rate(channel) for channel in self._recent)

    def steady_rate(self, channel: int) -> float:
        """Return the channel's mean rate over the last minute, or over the part of it that was seen."""
        points = self._points.get(channel, ())
        recent = list(points)[-_STEADY_MS // BUCKET_MS :]
        count = sum(count for _, _, count in recent)
        return sum(total for _, total, _ in recent) / count if count else 0.0

    def new_fails(self, channel: int | None = None) -> int:
        """Return how many tasks have failed in the last minute, of one channel or of all. A decrease counts as 0."""
        if not self._fails:
            return 0
        (_, before), (_, after) = self._fails[0], self._fails[-1]
        ids = after if channel is None else (channel,)
        return max(0, sum(after.get(i, 0) - before.get(i, 0) for i in ids))

    def new_runs(self, channel: int) -> tuple[int, int]:
        """Return the channel's failed runs and done tasks of the last minute."""
        if not self._runs:
            return 0, 0
        last = self._runs[-1][1].get(channel, (0, 0))
        first = self._runs[0][1].get(channel, last)
        return max(0, last[0] - first[0]), max(0, last[1] - first[1])

    def quiet_s(self, channel: int, now_ms: int) -> float:
        """Return for how many seconds no task of the channel was settled, as far as was seen."""
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
