"""Runs the real dashboard on a pseudo-terminal and measures how fast it reacts to keys. Used by `benchmarks.fleet`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from types import TracebackType

from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE

_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_SYNC_QUERY, _SYNC_SUPPORTED = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
"""The query whether the terminal supports synchronized output, and the answer of a terminal that does."""
_SYNC_END = b"\x1b[?2026l"
_TIMEOUT_S = 5.0


def raise_priority() -> None:
    """Raise the priority of this process and its later children, if that is allowed.

    A real terminal runs on the machine of the viewer, where it does not compete with the other processes.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        Path("/proc/self/autogroup").write_text("-15")


class WatchedDashboard:
    """`mutitask attach` on a terminal whose output is read all the time."""

    def __init__(self, url: str, name: str, *, refresh: float, rows: int = 60, columns: int = 200) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mutitask-watched-")
        config = Path(self._directory.name) / "config.toml"
        config.write_text(f"refresh = {refresh:.3f}\n")
        environment = {
            **os.environ, REDIS_URL_VARIABLE: url, "MUTITASK_CONFIG_FILE": str(config),
            "TERM": "xterm-256color", "COLORTERM": "truecolor",
        }  # fmt: skip
        environment.pop("NO_COLOR", None)
        self._terminal, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("mutitask"), "attach", "--name", name],
            stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)
        self.pid = self._process.pid
        raise_priority()
        self.bytes_read = 0
        self.frames = 0
        self._shown = b""
        """The output of the dashboard without escape sequences."""
        self._incomplete = b""
        """The start of an escape sequence that has not arrived completely."""
        self._cursor = 0
        self._typed = ""
        self._line_open = False

    def __enter__(self) -> WatchedDashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired, SystemExit):
            self.read_for(0.5)
            self._process.wait(5)
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)
        self._directory.cleanup()

    def read_for(self, seconds: float) -> None:
        """Read the output for some seconds. Count bytes and frames from 0."""
        self.bytes_read = self.frames = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def wait_for_text(self, text: bytes) -> None:
        """Read until the dashboard has shown this text."""
        end = time.monotonic() + 20
        while text not in self._shown:
            if time.monotonic() > end:
                raise SystemExit(f"broken run: {text!r} is not shown: {self._shown[-400:]!r}")
            self._read(0.1)

    def press(self, key: bytes, shown: re.Pattern[bytes]) -> float:
        """Press a key. Return the seconds until the output matches `shown`."""
        self._shown = b""
        searched = 0
        started = time.perf_counter()
        os.write(self._terminal, key)
        while not shown.search(self._shown, max(0, searched - 100)):
            if time.perf_counter() - started > _TIMEOUT_S:
                raise SystemExit(f"broken run: {key!r} shows nothing: {self._shown[-600:]!r}")
            searched = len(self._shown)
            self._read(0.1)
        took = time.perf_counter() - started
        self.read_for(
            0.03 + 0.1 * (took * 997 % 1)
        )  # A varying pause, so that keys are not in step with snapshots.
        return took

    def move(self, number: int) -> float:
        """Move the cursor to another device, until the status line names it."""
        key, step = (b"\x1b[C", 1) if number % 40 < 20 else (b"\x1b[D", -1)
        self._cursor += step
        return self.press(key, re.compile(rb"Device%d \xc2\xb7 TaskChannel" % self._cursor))

    def type(self, number: int) -> float:
        """Type a letter into the command line, until it is shown."""
        if not self._line_open:
            self._line_open = True
            self.read_for(0.2)
            os.write(self._terminal, b":")
            self.read_for(0.5)
        if len(self._typed) >= 20:
            self._typed = ""
            os.write(self._terminal, b"\x15")
            self.read_for(0.3)
        letter = "qzxjkvwy"[number % 8]
        self._typed += letter
        return self.press(letter.encode(), re.compile(re.escape(self._typed[-3:].encode())))

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        if not ready:
            return
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:
            raise SystemExit("broken run: the dashboard ended") from None
        if _SYNC_QUERY in data:
            os.write(self._terminal, _SYNC_SUPPORTED)
        self.bytes_read += len(data)
        self.frames += data.count(_SYNC_END)
        # Remove the escape sequences once per byte. A slow reader would make the dashboard look slow.
        data = self._incomplete + data
        cut = data.rfind(b"\x1b", len(data) - 40) if data.rfind(b"\x1b") >= len(data) - 40 else len(data)
        self._incomplete = data[cut:]
        self._shown = (self._shown + _ESCAPE.sub(b"", data[:cut]))[-300_000:]
