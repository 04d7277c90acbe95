"""The last hour of each channel: what was kept in Redis before this dashboard came, and what it saw since."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mutitask_tui.server.snapshot import Sample, Snapshot

HOUR_MS = 3_600_000
STEP_MS = 5_000
"""How far apart the samples are that are kept of what is seen."""
GAP_MS = 30_000
"""Samples farther apart than this have a hole between them: nobody kept anything."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each step of a stretch of time, oldest first; None where nothing is known."""

    first_ms: int
    """Where the first step begins."""
    step_ms: int
    values: tuple[float | None, ...]

    @property
    def last_ms(self) -> int:
        """Where the last step ends."""
        return self.first_ms + self.step_ms * len(self.values)

    @property
    def newest(self) -> float | None:
        """The last value."""
        return self.values[-1] if self.values else None

    @property
    def top(self) -> float:
        """The largest value; 0 where there is none."""
        return max((value for value in self.values if value is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Charts:
    """What the chart screen draws of one channel, or of all."""

    rate: Series
    """Tasks settled a second."""
    fill: Series
    """Waiting tasks in percent of the capacity."""
    fails: Series
    """Tasks that failed for good, a minute."""


class Past:
    """Grows with each snapshot, bounded to an hour. All times are Redis's."""

    def __init__(self) -> None:
        self.run = ""
        self._samples: list[list[Sample]] = []

    @property
    def channels(self) -> int:
        """How many channels are known."""
        return len(self._samples)

    def add(self, snapshot: Snapshot) -> None:
        """Take in what is now. A new run begins afresh."""
        if snapshot.run != self.run or len(snapshot.channels) != len(self._samples):
            self.run = snapshot.run
            self._samples = [[] for _ in snapshot.channels]
        for samples, c in zip(self._samples, snapshot.channels, strict=True):
            now = Sample(snapshot.now_ms, c.waiting, c.capacity, c.claimed, c.done, c.failed, c.allotted)
            if len(samples) > 1 and now.at_ms - samples[-2].at_ms < STEP_MS:
                samples.pop()
            samples.append(now)
            if samples[0].at_ms < now.at_ms - HOUR_MS - GAP_MS:
                del samples[: bisect_right(samples, now.at_ms - HOUR_MS, key=_at)]

    def seed(self, history: Sequence[Sequence[Sample]]) -> None:
        """Take in what was kept; of what was seen here only what is newer stays."""
        if len(history) != len(self._samples):
            return
        for number, kept in enumerate(history):
            seen = self._samples[number]
            newest = kept[-1].at_ms if kept else 0
            self._samples[number] = [*kept, *(sample for sample in seen if sample.at_ms > newest)]

    def charts(self, channel: int | None, minutes: int, steps: int) -> Charts:
        """The last `minutes` in `steps` steps; `channel` None means all."""
        chosen = self._samples if channel is None else self._samples[channel : channel + 1]
        now = max((samples[-1].at_ms for samples in chosen if samples), default=0)
        step = max(1, -(-minutes * 60_000 // steps))
        # Steps begin at round times: the picture moves by whole steps and does not shimmer.
        first = (now // step - steps + 1) * step
        edges = [first + step * number for number in range(steps)] + [now]
        parts = [_Channel(samples, edges) for samples in chosen if samples]
        return Charts(
            Series(first, step, _sums([part.rates() for part in parts], steps)),
            Series(first, step, _fill(parts, steps)),
            Series(first, step, _sums([part.fails() for part in parts], steps)),
        )


def _at(sample: Sample) -> int:
    return sample.at_ms


_Place = tuple[int, float] | None
"""A sample's number and how far towards the next one, from 0 to 1; None in a hole, or outside of all samples."""


class _Channel:
    """One channel's samples, looked at at the edges of the steps."""

    def __init__(self, samples: list[Sample], edges: list[int]) -> None:
        self._samples = samples
        times = [sample.at_ms for sample in samples]
        self._places = [_place(times, edge) for edge in edges]
        # The step that has just begun looks as far back as the others.
        step = edges[1] - edges[0]
        self._newest = _place(times, edges[-1] - step)
        self._step_ms = step

    def rates(self) -> list[float | None]:
        return self._growth([sample.done + sample.failed for sample in self._samples], 1_000)

    def fails(self) -> list[float | None]:
        return self._growth([sample.failed for sample in self._samples], 60_000)

    def _growth(self, counts: list[int], per_ms: int) -> list[float | None]:
        """How fast a count grew in each step. Where it fell (failed tasks went back) it grew by nothing."""
        grown = [0.0]
        total = 0.0
        for before, after in pairwise(counts):
            total += max(0, after - before)
            grown.append(total)
        values = _at_places(grown, [*self._places[:-1], self._newest, self._places[-1]])
        scale = per_ms / self._step_ms
        pairs = [*pairwise(values[:-2]), (values[-2], values[-1])]
        return [None if low is None or high is None else (high - low) * scale for low, high in pairs]

    def levels(self) -> list[tuple[float, float] | None]:
        """Waiting tasks and capacity, at the end of each step."""
        places = self._places[1:]
        waiting = _at_places([float(sample.waiting) for sample in self._samples], places)
        capacity = _at_places([float(sample.capacity) for sample in self._samples], places)
        return [
            None if level is None or room is None else (level, room)
            for level, room in zip(waiting, capacity, strict=True)
        ]


def _place(times: list[int], at_ms: int) -> _Place:
    place = bisect_right(times, at_ms) - 1
    if place < 0:
        return None
    away = at_ms - times[place]
    if place + 1 == len(times):
        return (place, 0.0) if away <= GAP_MS else None
    apart = times[place + 1] - times[place]
    if apart > GAP_MS:
        return (place, 0.0) if away == 0 else None
    return place, away / apart


def _at_places(values: list[float], places: list[_Place]) -> list[float | None]:
    """The values there, on the lines between the samples."""
    found: list[float | None] = []
    for place in places:
        if place is None:
            found.append(None)
            continue
        number, share = place
        value = values[number]
        found.append(value + share * (values[number + 1] - value) if share else value)
    return found


def _sums(rows: list[list[float | None]], steps: int) -> tuple[float | None, ...]:
    if len(rows) == 1:
        return tuple(rows[0])
    return tuple(_sum(column) for column in zip(*rows, strict=True)) if rows else (None,) * steps


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _fill(parts: list[_Channel], steps: int) -> tuple[float | None, ...]:
    rows = [part.levels() for part in parts]
    values: list[float | None] = []
    for column in zip(*rows, strict=True) if rows else [()] * steps:
        known = [pair for pair in column if pair is not None]
        room = sum(capacity for _, capacity in known)
        values.append(100.0 * sum(level for level, _ in known) / room if room else None)
    return tuple(values)
