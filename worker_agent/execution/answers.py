"""The pipe on which a child process answers its agent. Several threads may write: each message stays whole."""

from __future__ import annotations

import os
import threading


class Answers:
    """Writes messages into the pipe `pipe`, whole and one after the other."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def write(self, *parts: bytes) -> None:
        """Write one message, or several, given in parts."""
        with self._lock:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(self._pipe, view) :]
