"""The terminal driver: Textual's own, but one that outlives its terminal.

Textual writes through a thread with a queue of 30. When the terminal is gone (a dropped ssh, a closed window) the
thread dies of the first write, the queue fills, and the event loop stands still for ever: not even SIGTERM ends it.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.driver import Driver


def driver_class() -> type[Driver] | None:
    """The driver for a terminal; None where Textual chooses: on Windows, in a browser, in tests."""
    if sys.platform == "win32" or os.environ.get("TEXTUAL_DRIVER"):
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class LastingDriver(LinuxDriver):
        """Goes on without its terminal until the app has left in order."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._file: Any = _Lasting(self._file)

        def _sigcont_application(self, *_: Any) -> None:
            """A closed terminal sends SIGCONT too: there is nothing to come back to."""
            if os.isatty(self.fileno):
                super()._sigcont_application()

    return LastingDriver


class _Lasting:
    """A file whose writes never fail: what nobody can see any more is dropped."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._gone = False

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                return self._file.write(text)
            except (OSError, ValueError):
                self._gone = True
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._file.flush()
            except (OSError, ValueError):
                self._gone = True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return not self._gone and self._file.isatty()
