"""What one snapshot cannot tell of a device: its rate, whether it fails, whether it is slower than the others."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Literal

from mutitask_tui.dashboard.model.trend import GROWTH_MS
from mutitask_tui.server.snapshot import DeviceView, Snapshot

Fault = Literal["", "offline", "failing", "slow"]

_EVERY_MS = 2000
"""How far apart the marks are that rates are taken from: a thousand devices at 30 marks are 3 MB."""
_RATE_MS = 10_000
_COMPARE_MS = 900
"""Devices report every second: looking more often tells nothing, and makes each row of the grid change each time."""
_SLOW_FACTOR = 5
_SLOW_AT_LEAST_S = 5.0
"""A task is slow if it has run for `_SLOW_FACTOR` times the median of the channel's other devices and no less
than this."""

_Mark = tuple[int, dict[int, tuple[int, int]]]


class DeviceTrend:
    """Grows with each snapshot and stays bounded to a minute. All times are the snapshots' own."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self._run = ""
        self._rates: dict[int, float] = {}
        self._grown: dict[int, int] = {}
        self._slow: set[int] = set()
        self._compared_ms = 0

    def add(self, snapshot: Snapshot) -> None:
        """Take in one more snapshot; a new run begins afresh."""
        if snapshot.run != self._run:
            self._marks.clear()
            self._run, self._compared_ms = snapshot.run, 0
        now = snapshot.now_ms
        if 0 <= now - self._compared_ms < _COMPARE_MS:
            return
        self._compared_ms = now
        while self._marks and self._marks[0][0] < now - GROWTH_MS:
            self._marks.popleft()
        self._compare(snapshot)
        if not self._marks or now - self._marks[-1][0] >= _EVERY_MS:
            self._marks.append((now, {d.id: (d.done, d.errors) for d in snapshot.devices}))
        self._slow = slow_devices(snapshot.devices)

    def rate(self, device: int) -> float:
        """Tasks that it settled a second, over the last ten seconds."""
        return self._rates.get(device, 0.0)

    def grown(self, device: int) -> int:
        """How many of its runs failed in the last minute."""
        return self._grown.get(device, 0)

    def fault(self, device: DeviceView) -> Fault:
        """What is wrong with it, the worst first."""
        if device.state == "offline":
            return "" if device.seen_s is None else "offline"
        if self._grown.get(device.id):
            return "failing"
        return "slow" if device.id in self._slow else ""

    def _compare(self, snapshot: Snapshot) -> None:
        self._rates, self._grown = {}, {}
        if not self._marks:
            return
        now, oldest = snapshot.now_ms, self._marks[0][1]
        since, recent = next((mark for mark in self._marks if mark[0] >= now - _RATE_MS), self._marks[-1])
        seconds = (now - since) / 1000
        for device in snapshot.devices:
            before = recent.get(device.id)
            if before is not None and seconds > 0 and device.state != "offline":
                settled = device.done + device.errors - before[0] - before[1]
                if settled > 0:
                    self._rates[device.id] = settled / seconds
            first = oldest.get(device.id)
            if first is not None and device.errors > first[1]:
                self._grown[device.id] = device.errors - first[1]


def slow_devices(devices: tuple[DeviceView, ...]) -> set[int]:
    """Those whose current task has run far longer than the other devices' of their channel."""
    ages: dict[int, list[tuple[float, int]]] = {}
    for device in devices:
        if device.running and device.state != "offline":
            ages.setdefault(device.channel, []).append((device.current_s, device.id))
    slow: set[int] = set()
    for found in ages.values():
        if len(found) < 3:
            continue
        limit = max(_SLOW_AT_LEAST_S, _SLOW_FACTOR * median(age for age, _ in found))
        slow.update(number for age, number in found if age > limit)
    return slow
