"""What a run has said: its last lines, and lines and progress that are not passed on yet."""

from __future__ import annotations

from collections import deque

Progress = tuple[float, float | None, str]
"""How far a run is: what is done, of how much (None if that is unknown), and a note."""

MAX_TAIL_LINES = 50
"""How many of a run's last lines are kept."""
MAX_LINE_BYTES = 1_000
"""The length to which a line is cut, in bytes of UTF-8."""
MAX_FAILURE_BYTES = 16_000
"""How many bytes of a failed run's last lines are kept with the failure. The oldest lines go first."""


class Speech:
    """What one run has said so far. Most runs say nothing, and have none."""

    __slots__ = ("late_progress", "open_lines", "progress_sent_at", "tail")

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
        """The last whole lines, cut to `MAX_LINE_BYTES`."""
        self.open_lines = ["", ""]
        """What was printed on stdout and on stderr since the last newline."""
        self.progress_sent_at = 0.0
        """In a child process: when it last told the agent about its progress (monotonic)."""
        self.late_progress: Progress | None = None
        """In a child process: what it has not told yet."""

    def last_line(self) -> str:
        """Return the last whole line, or ''."""
        try:
            return self.tail[-1]
        except IndexError:
            return ""


SPEAKING: dict[bytes, Speech] = {}
"""By the ids of their tasks: the runs in this process that have said something."""


def cut_line(text: str) -> str:
    """Return a line without lone surrogates, cut to `MAX_LINE_BYTES`."""
    encoded = text[: MAX_LINE_BYTES + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= MAX_LINE_BYTES:
        return encoded.decode("utf-8")
    return encoded[: MAX_LINE_BYTES - 3].decode("utf-8", "ignore") + "…"


def tail_of(speech: Speech | None) -> list[str]:
    """Return the last lines, at most `MAX_FAILURE_BYTES`."""
    kept: list[str] = []
    size = 0
    for line in reversed(speech.tail.copy() if speech else ()):
        size += len(line.encode())
        if size > MAX_FAILURE_BYTES:
            break
        kept.append(line)
    return kept[::-1]
