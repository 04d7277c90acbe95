"""Compares snapshots of devices: the rate of each, whether it fails, whether it is slower than the others."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Literal

from mutitask_tui.dashboard.model.trend import GROWTH_MS
from mutitask_tui.server.snapshot import DeviceView, Snapshot

Fault = Literal["", "offline", "failing", "slow"]

_EVERY_MS = 2000
"""The interval between two samples. 1,000 devices with 30 samples each take 3 MB."""
_RATE_MS = 10_000
_COMPARE_MS = 900
"""Compare no more often than this. Devices report every second, so more often shows nothing new and changes every
row of the grid each time."""
_SLOW_FACTOR = 5
_SLOW_AT_LEAST_S = 5.0
"""A task is slow if it has run at least this long and `_SLOW_FACTOR` times the median of the devices that serve the
same channels."""

_Sample = tuple[int, dict[int, tuple[int, int]]]


class DeviceTrend:
    """Keeps samples of the last minute. All times are the snapshots' own."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._run = ""
        self._rates: dict[int, float] = {}
        self._new_errors: dict[int, int] = {}
        self._slow: set[int] = set()
        self._compared_ms = 0

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot. A new run discards what is known of the former one."""
        if snapshot.run != self._run:
            self._samples.clear()
            self._run, self._compared_ms = snapshot.run, 0
        now = snapshot.now_ms
        if 0 <= now - self._compared_ms < _COMPARE_MS:
            return
        self._compared_ms = now
        while self._samples and self._samples[0][0] < now - GROWTH_MS:
            self._samples.popleft()
        self._compare(snapshot)
        if not self._samples or now - self._samples[-1][0] >= _EVERY_MS:
            self._samples.append((now, {d.id: (d.done, d.errors) for d in snapshot.devices}))
        self._slow = slow_devices(snapshot.devices)

    def rate(self, device: int) -> float:
        """Return the device's settled tasks per second over the last ten seconds."""
        return self._rates.get(device, 0.0)

    def new_errors(self, device: int) -> int:
        """Return how many of the device's runs failed in the last minute."""
        return self._new_errors.get(device, 0)

    def fault(self, device: DeviceView) -> Fault:
        """Return the worst fault of a device; '' if there is none."""
        if device.state == "offline":
            return "" if device.seen_s is None else "offline"
        if self._new_errors.get(device.id):
            return "failing"
        return "slow" if device.id in self._slow else ""

    def _compare(self, snapshot: Snapshot) -> None:
        self._rates, self._new_errors = {}, {}
        if not self._samples:
            return
        now, oldest = snapshot.now_ms, self._samples[0][1]
        since, recent = next(
            (sample for sample in self._samples if sample[0] >= now - _RATE_MS), self._samples[-1]
        )
        seconds = (now - since) / 1000
        for device in snapshot.devices:
            before = recent.get(device.id)
            if before is not None and seconds > 0 and device.state != "offline":
                settled = device.done + device.errors - before[0] - before[1]
                if settled > 0:
                    self._rates[device.id] = settled / seconds
            first = oldest.get(device.id)
            if first is not None and device.errors > first[1]:
                self._new_errors[device.id] = device.errors - first[1]


def slow_devices(devices: tuple[DeviceView, ...]) -> set[int]:
    """Return the devices whose task runs far longer than those of the other devices that serve the same channels."""
    ages: dict[frozenset[int] | None, list[tuple[float, int]]] = {}
    for device in devices:
        if device.running and device.state != "offline":
            ages.setdefault(device.channel_set, []).append((device.current_s, device.id))
    slow: set[int] = set()
    for found in ages.values():
        if len(found) < 3:
            continue
        limit = max(_SLOW_AT_LEAST_S, _SLOW_FACTOR * median(age for age, _ in found))
        slow.update(number for age, number in found if age > limit)
    return slow
