"""Whether this process runs: a thread that does nothing but look at the clock, and sees where it could not."""

from __future__ import annotations

import threading

from worker_agent.protocol.pristine import time

BEAT_S = 0.5
LATE_S = 1.5
"""A beat that comes so late tells that the process stood still; less is a busy machine."""


class Pulse(threading.Thread):
    """Beats until ended. A process that was stopped, or whose GIL was held, misses beats; one that waits does not."""

    def __init__(self) -> None:
        super().__init__(name="pulse", daemon=True)
        self._ended = threading.Event()
        self._last = time.monotonic()
        self._still_s = 0.0

    def end(self) -> None:
        """Beat no more."""
        self._ended.set()

    def still_s(self) -> float:
        """For how many seconds the process stood still, since the start."""
        return self._still_s + self._late(time.monotonic() - self._last)

    def run(self) -> None:
        """Until ended."""
        while not self._ended.wait(BEAT_S):
            now = time.monotonic()
            self._still_s, self._last = self._still_s + self._late(now - self._last), now

    @staticmethod
    def _late(gap: float) -> float:
        return gap if gap >= LATE_S else 0.0


def asleep_s() -> float:
    """For how long this machine was asleep since it started: `time.monotonic` stands still meanwhile. Linux; else 0."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
