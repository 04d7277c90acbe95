"""The wait for the device's token. While the agent is at rest, the long poll waits for it too, on one connection."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker_agent.protocol.unpatched import time

BUSY_S = 0.02
"""How long the token may be without a wait between two tasks of a light load."""
ACTIVE_S = 1.0
"""How long after a task the heartbeat looks whether another one runs, instead of being woken by the next one."""


class DeviceToken:
    """Says who waits for the token: the long poll together with its own tokens, or else the heartbeat alone."""

    def __init__(self) -> None:
        self.covered = False
        """Whether the long poll waits for the token now."""
        self.follow: Callable[[], None] = lambda: None
        """Reads the desired state and follows it. The heartbeat sets this."""
        self._resting = False
        self._wake = threading.Event()
        self._watched = False
        """Whether the end of the long poll's wait wakes the heartbeat."""
        self._active_until = 0.0

    # For the long poll

    def cover(self) -> None:
        """Wait for the token from now on."""
        self.covered = True

    def uncover(self) -> None:
        """Stop waiting for the token. The heartbeat then waits for it. Hardly delays the task that has just come."""
        self.covered = False
        if self._watched:
            self._watched = False
            self._active_until = time.monotonic() + ACTIVE_S
            self.wake()

    def receive(self) -> None:
        """Follow the desired state at once, and let the heartbeat report it."""
        self.follow()
        self.wake()

    # For the heartbeat

    def rest(self, seconds: float, stay: Callable[[], bool]) -> None:
        """Sleep while the long poll waits for the token, for `seconds` at most, until `wake`. Not unless `stay`."""
        self._wake.clear()
        self._watched = time.monotonic() >= self._active_until
        self._resting = True
        # After the flags are set: a wake that came before must not be missed.
        if self.covered and stay():
            self._wake.wait(seconds if self._watched else min(seconds, BUSY_S))
        self._resting = self._watched = False

    def wake(self) -> None:
        """End the sleep."""
        if self._resting:
            self._resting = False
            self._wake.set()
