"""Explains why an agent sent no heartbeat for so long that it was fenced."""

from __future__ import annotations

import threading

from worker_agent.protocol.unpatched import time
from worker_agent.settings import Kind

TICK_S = 0.5
STALL_S = 1.5
"""A tick that is at least this late shows a stall. A shorter delay only shows that the machine is busy."""


class StallClock(threading.Thread):
    """Measures how long this process did not run, by ticks. Ticks are late if it was stopped, or its GIL was held."""

    def __init__(self) -> None:
        super().__init__(name="stall-clock", daemon=True)
        self._ended = threading.Event()
        self._last_tick = time.monotonic()
        self._stalled_s = 0.0

    def end(self) -> None:
        """Stop ticking."""
        self._ended.set()

    def stalled_s(self) -> float:
        """Return for how many seconds the process was stalled since the clock's start."""
        return self._stalled_s + self._stall_in(time.monotonic() - self._last_tick)

    def run(self) -> None:
        """Tick until ended."""
        while not self._ended.wait(TICK_S):
            now = time.monotonic()
            self._stalled_s, self._last_tick = self._stalled_s + self._stall_in(now - self._last_tick), now

    @staticmethod
    def _stall_in(gap: float) -> float:
        return gap if gap >= STALL_S else 0.0


def asleep_s() -> float:
    """Return for how many seconds this machine was asleep since it started: Linux only, elsewhere 0.

    `time.monotonic` stands still while the machine is asleep.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Silence:
    """The time since Redis accepted the last heartbeat, and what this process did in it."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._clock = StallClock()
        self._began_at = time.monotonic()
        self._cpu_s = time.process_time()
        self._stalled_s = self._asleep_s = 0.0

    def start(self) -> None:
        """Start to measure stalls."""
        self._clock.start()

    def end(self) -> None:
        """Stop to measure stalls."""
        self._clock.end()

    def restart(self) -> None:
        """Record that Redis has just accepted a heartbeat."""
        self._began_at, self._cpu_s = time.monotonic(), time.process_time()
        self._stalled_s, self._asleep_s = self._clock.stalled_s(), asleep_s()

    def explain(self) -> str:
        """Return why no heartbeat went out, as far as this process can know."""
        asleep = asleep_s() - self._asleep_s
        if asleep > 1:
            return f"this machine was asleep for {asleep:.0f} s"
        silent = time.monotonic() - self._began_at
        stalled = self._clock.stalled_s() - self._stalled_s
        if stalled < silent / 2:
            return (
                f"Redis, or the network to it, did not answer this agent for {silent:.0f} s; "
                "the agent itself was running all that time"
            )
        used = time.process_time() - self._cpu_s
        if self._kind != "process" and used > silent / 2:
            return (
                f"a task function held Python's lock (the GIL): the last heartbeat was {silent:.0f} s ago, and this "
                f"process used {used:.0f} s of CPU since; with --kind process the agent keeps sending heartbeats"
            )
        held = (
            "" if self._kind == "process" else
            ", or a task function waited and held Python's lock (the GIL): "
            "with --kind process the agent keeps sending heartbeats"
        )  # fmt: skip
        return f"this process did not run for {stalled:.0f} s: it was stopped, or it got no CPU time{held}"
