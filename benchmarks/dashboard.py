"""The real dashboard on a pseudo-terminal, with a clock on its keys: a part of `benchmarks/fleet.py`."""

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
_SYNC_ASKED, _SYNC_KNOWN = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
"""Whether the terminal can hold a picture back until it is whole; good ones can."""
_SYNC_END = b"\x1b[?2026l"
_PATIENCE_S = 5.0


def read_first() -> None:
    """Run before all others, where that is allowed: a terminal is on the machine of whoever looks at it.

    What is started from here on does so too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        Path("/proc/self/autogroup").write_text("-15")


class Watched:
    """`mutitask attach` on a terminal of 200x60 that somebody reads."""

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
        read_first()
        self.bytes_read = 0
        self.frames = 0
        self._shown = b""
        """What was drawn, without the escapes."""
        self._half = b""
        self._cursor = 0
        self._typed = ""
        self._line_open = False

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired, SystemExit):
            self.rest(0.5)
            self._process.wait(5)
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)
        self._directory.cleanup()

    def rest(self, seconds: float) -> None:
        """Only read, and count from now on."""
        self.bytes_read = self.frames = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def until_shown(self, text: bytes) -> None:
        """Read until the terminal was sent this text."""
        end = time.monotonic() + 20
        while text not in self._shown:
            if time.monotonic() > end:
                raise SystemExit(f"broken run: {text!r} is not shown: {self._shown[-400:]!r}")
            self._read(0.1)

    def press(self, key: bytes, shown: re.Pattern[bytes]) -> float:
        """Seconds from a key to the bytes that show what it did."""
        self._shown = b""
        looked = 0
        began = time.perf_counter()
        os.write(self._terminal, key)
        while not shown.search(self._shown, max(0, looked - 100)):
            if time.perf_counter() - began > _PATIENCE_S:
                raise SystemExit(f"broken run: {key!r} shows nothing: {self._shown[-600:]!r}")
            looked = len(self._shown)
            self._read(0.1)
        took = time.perf_counter() - began
        self.rest(0.03 + 0.1 * (took * 997 % 1))  # Not in step with the snapshots.
        return took

    def move(self, number: int) -> float:
        """Move the cursor through the devices; the status line names the new one."""
        key, step = (b"\x1b[C", 1) if number % 40 < 20 else (b"\x1b[D", -1)
        self._cursor += step
        return self.press(key, re.compile(rb"Device%d \xc2\xb7 TaskChannel" % self._cursor))

    def type(self, number: int) -> float:
        """Type into the command line."""
        if not self._line_open:
            self._line_open = True
            self.rest(0.2)
            os.write(self._terminal, b":")
            self.rest(0.5)
        if len(self._typed) >= 20:
            self._typed = ""
            os.write(self._terminal, b"\x15")
            self.rest(0.3)
        letter = "qzxjkvwy"[number % 8]
        self._typed += letter
        return self.press(letter.encode(), re.compile(re.escape(self._typed[-3:].encode())))

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        if not ready:
            return
        try:
            got = os.read(self._terminal, 1 << 16)
        except OSError:
            raise SystemExit("broken run: the dashboard ended") from None
        if _SYNC_ASKED in got:
            os.write(self._terminal, _SYNC_KNOWN)
        self.bytes_read += len(got)
        self.frames += got.count(_SYNC_END)
        # Without escapes, each looked at once: a reader that is slow makes the dashboard look slow.
        got = self._half + got
        cut = got.rfind(b"\x1b", len(got) - 40) if got.rfind(b"\x1b") >= len(got) - 40 else len(got)
        self._half = got[cut:]
        self._shown = (self._shown + _ESCAPE.sub(b"", got[:cut]))[-300_000:]
