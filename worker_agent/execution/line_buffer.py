"""Keeps the lines of tasks until they are sent, and drops those beyond a rate."""

from __future__ import annotations

import threading
from collections import deque

from worker_agent.protocol.task_line import TaskLine
from worker_agent.protocol.unpatched import time

MAX_LINES_PER_S = 100
"""How many lines of its tasks an agent sends in a second. The others are counted."""
MAX_KEPT_LINES = 500
"""How many lines are kept while Redis does not answer. The oldest are dropped."""


class LineBuffer:
    """The lines since the last `take`: at most `MAX_LINES_PER_S` a second. Any thread may use it."""

    def __init__(self) -> None:
        self._lines: deque[TaskLine] = deque(maxlen=MAX_KEPT_LINES)
        self._lock = threading.Lock()
        self._second = 0
        self._in_second = 0
        self._dropped = 0

    def add(self, line: TaskLine) -> None:
        """Keep a line, or count it as dropped."""
        second = int(time.monotonic())
        with self._lock:
            if second != self._second:
                self._second, self._in_second = second, 0
            self._in_second += 1
            if self._in_second > MAX_LINES_PER_S:
                self._dropped += 1
                return
            self._dropped += len(self._lines) == MAX_KEPT_LINES
            self._lines.append(line)

    def add_dropped(self, count: int) -> None:
        """Count lines that were dropped elsewhere."""
        with self._lock:
            self._dropped += count

    def __bool__(self) -> bool:
        """Return whether there is anything to take."""
        return bool(self._lines or self._dropped)

    def take(self) -> tuple[list[TaskLine], int]:
        """Remove and return the lines, and how many were dropped since the last call."""
        with self._lock:
            lines, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._dropped = 0
        return lines, dropped
