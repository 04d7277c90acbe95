"""The last hour of each channel: the samples stored in Redis, and those that this dashboard has seen since."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mutitask_tui.server.snapshot import Sample, Snapshot

HOUR_MS = 3_600_000
STEP_MS = 5_000
"""The interval between the samples that are kept."""
GAP_MS = 30_000
"""Samples farther apart than this have a gap between them: no server stored any."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each step of a time span, oldest first; None where nothing is known."""

    first_ms: int
    """The start of the first step."""
    step_ms: int
    values: tuple[float | None, ...]

    @property
    def last_ms(self) -> int:
        """The end of the last step."""
        return self.first_ms + self.step_ms * len(self.values)

    @property
    def newest(self) -> float | None:
        """The last value; None if it is unknown."""
        return self.values[-1] if self.values else None

    @property
    def top(self) -> float:
        """The largest value; 0 if there is none."""
        return max((value for value in self.values if value is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Charts:
    """The three curves of the chart screen, for one channel or for all."""

    rate: Series
    """Settled tasks per second."""
    fill: Series
    """Waiting tasks as a percentage of the capacity."""
    fails: Series
    """Tasks that failed for good, per minute."""


class History:
    """Keeps the samples of the last hour. All times are Redis's."""

    def __init__(self) -> None:
        self.run = ""
        self._samples: list[list[Sample]] = []

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self._samples)

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot. A new run discards the samples of the former one."""
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
        """Add the samples stored in Redis. Of the samples seen here only newer ones stay."""
        if len(history) != len(self._samples):
            return
        for number, stored in enumerate(history):
            seen = self._samples[number]
            newest = stored[-1].at_ms if stored else 0
            self._samples[number] = [*stored, *(sample for sample in seen if sample.at_ms > newest)]

    def charts(self, channel: int | None, minutes: int, steps: int) -> Charts:
        """Return the curves of the last `minutes` in `steps` steps, for one channel or for all (None)."""
        chosen = self._samples if channel is None else self._samples[channel : channel + 1]
        now = max((samples[-1].at_ms for samples in chosen if samples), default=0)
        step = max(1, -(-minutes * 60_000 // steps))
        # Steps begin at round times, so that the picture moves by whole steps and does not flicker.
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


_Position = tuple[int, float] | None
"""A sample's index and the fraction of the way to the next one; None in a gap or outside of all samples."""


class _Channel:
    """One channel's samples, interpolated at the edges of the steps."""

    def __init__(self, samples: list[Sample], edges: list[int]) -> None:
        self._samples = samples
        times = [sample.at_ms for sample in samples]
        self._positions = [_position(times, edge) for edge in edges]
        # The current step is incomplete: it uses the same span of time as the others.
        step = edges[1] - edges[0]
        self._newest = _position(times, edges[-1] - step)
        self._step_ms = step

    def rates(self) -> list[float | None]:
        return self._growth([sample.done + sample.failed for sample in self._samples], 1_000)

    def fails(self) -> list[float | None]:
        return self._growth([sample.failed for sample in self._samples], 60_000)

    def _growth(self, counts: list[int], per_ms: int) -> list[float | None]:
        """Return how fast a count grew in each step. A decrease (failed tasks were reloaded) counts as no growth."""
        grown = [0.0]
        total = 0.0
        for before, after in pairwise(counts):
            total += max(0, after - before)
            grown.append(total)
        values = _values_at(grown, [*self._positions[:-1], self._newest, self._positions[-1]])
        scale = per_ms / self._step_ms
        pairs = [*pairwise(values[:-2]), (values[-2], values[-1])]
        return [None if low is None or high is None else (high - low) * scale for low, high in pairs]

    def levels(self) -> list[tuple[float, float] | None]:
        """Return the waiting tasks and the capacity at the end of each step."""
        positions = self._positions[1:]
        waiting = _values_at([float(sample.waiting) for sample in self._samples], positions)
        capacity = _values_at([float(sample.capacity) for sample in self._samples], positions)
        return [
            None if level is None or room is None else (level, room)
            for level, room in zip(waiting, capacity, strict=True)
        ]


def _position(times: list[int], at_ms: int) -> _Position:
    index = bisect_right(times, at_ms) - 1
    if index < 0:
        return None
    elapsed = at_ms - times[index]
    if index + 1 == len(times):
        return (index, 0.0) if elapsed <= GAP_MS else None
    interval = times[index + 1] - times[index]
    if interval > GAP_MS:
        return (index, 0.0) if elapsed == 0 else None
    return index, elapsed / interval


def _values_at(values: list[float], positions: list[_Position]) -> list[float | None]:
    """Return the values at the positions, interpolated linearly between the samples."""
    found: list[float | None] = []
    for position in positions:
        if position is None:
            found.append(None)
            continue
        index, fraction = position
        value = values[index]
        found.append(value + fraction * (values[index + 1] - value) if fraction else value)
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
