"""The wait for the device's token. While the agent is at rest, the long poll waits for it too, on one connection."""

from __future__ import annotations

import threading
from collections.abc import Callable


class DeviceToken:
    """Says who waits for the token: the long poll together with its own tokens, or else the heartbeat alone."""

    def __init__(self) -> None:
        self.covered = False
        """Whether the long poll waits for the token now."""
        self.follow: Callable[[], None] = lambda: None
        """Reads the desired state and follows it. The heartbeat sets this."""
        self._resting = False
        self._wake = threading.Event()

    # For the long poll

    def cover(self) -> None:
        """Wait for the token from now on."""
        self.covered = True

    def uncover(self) -> None:
        """Stop waiting for the token. The heartbeat then waits for it."""
        self.covered = False
        self.wake()

    def receive(self) -> None:
        """Follow the desired state at once, and let the heartbeat report it."""
        self.follow()
        self.wake()

    # For the heartbeat

    def rest(self, seconds: float, stay: Callable[[], bool]) -> None:
        """Sleep while the long poll waits for the token, for `seconds` at most, until `wake`. Not unless `stay`."""
        self._wake.clear()
        self._resting = True
        # After the flag is set: a wake that came before must not be missed.
        if self.covered and stay():
            self._wake.wait(seconds)
        self._resting = False

    def wake(self) -> None:
        """End the sleep. Costs almost nothing if nobody sleeps: the long poll calls this at each task."""
        if self._resting:
            self._resting = False
            self._wake.set()
