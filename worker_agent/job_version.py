"""Which version of the job file a process has loaded, and whether the file on the disk is another one now."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker_agent.protocol.unpatched import time

DIGITS = 12
"""A version is this many hexadecimal digits of the SHA-256 of the file."""
LOOK_S = 2.0
"""The shortest time between two looks at the file."""

_Look = tuple[int, int, int]
"""The time, the size and the inode of a file."""


def version_of(path: str | Path) -> str:
    """Return the version of a file, or '' if it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(data, usedforsecurity=False).hexdigest()[:DIGITS]


class JobVersion:
    """The version of a job file when this object was made, which is before the file is loaded."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._look = self._stat()
        self.loaded = version_of(self.path)
        self._changed = False
        self._next_look = 0.0

    def has_changed(self) -> bool:
        """Return whether the file is another one now. Looks every `LOOK_S` at most, and reads it only if it changed.

        While the file cannot be read, the answer stays.
        """
        now = time.monotonic()
        if now < self._next_look:
            return self._changed
        self._next_look = now + LOOK_S
        look = self._stat()
        if look is not None and look != self._look and (version := version_of(self.path)):
            self._look, self._changed = look, version != self.loaded
        return self._changed

    def _stat(self) -> _Look | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
