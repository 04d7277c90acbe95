"""A terminal driver that survives the loss of its terminal.

Textual writes through a thread with a queue of 30 entries. When the terminal is gone (a dropped ssh connection, a
closed window), the first write ends that thread, the queue fills, and the event loop blocks for ever: not even SIGTERM
ends the process. This driver drops such writes instead.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.driver import Driver


def driver_class() -> type[Driver] | None:
    """Return the driver for a terminal; None on Windows, in a browser and in tests, where Textual chooses."""
    if sys.platform == "win32" or os.environ.get("TEXTUAL_DRIVER"):
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class SurvivingDriver(LinuxDriver):
        """Keeps running without its terminal until the app has shut down."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._file: Any = _SafeFile(self._file)

        def _sigcont_application(self, *_: Any) -> None:
            """Resume only if the terminal still exists: closing it sends SIGCONT too."""
            if os.isatty(self.fileno):
                super()._sigcont_application()

    return SurvivingDriver


class _SafeFile:
    """A file whose writes never fail: without a terminal they are dropped."""

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
