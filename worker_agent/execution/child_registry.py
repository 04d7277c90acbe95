"""In a child process: tells the agent how far tasks are and what they print and log, in few messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from worker_agent.execution.line_buffer import LineBuffer
from worker_agent.execution.runner import time_limit_of
from worker_agent.execution.speech import SPEAKING, Progress, Speech
from worker_agent.protocol.task_line import TaskLine
from worker_agent.protocol.unpatched import time

PASS_ON_S = 0.2
"""The shortest time between two messages about the progress of a task, and between two messages with lines."""
LINES, PROGRESS = b"l", b"p"
"""The kinds of messages: `(LINES, id, (channel, dropped, ((ms, text), ...)))` and `(PROGRESS, id, progress)`."""

Message = tuple[bytes, bytes, Any]


class ChildRegistry:
    """The runs of this child process. `send` sends one message to the agent, whole, from any thread.

    `timeout` is the time limit of tasks that have none of their own, in seconds. None for no limit.
    """

    def __init__(self, send: Callable[[Message], None], timeout: float | None) -> None:
        self._send = send
        self._timeout = timeout
        self._started: dict[bytes, tuple[bytes, float]] = {}
        self._lines = LineBuffer()
        self._sending = threading.Lock()
        self._due = threading.Event()
        self._sender: threading.Thread | None = None

    def start(self, item: bytes) -> None:
        """Note that the run of a list item starts now. Needed only for `deadline`."""
        self._started[item[2:22]] = item, time.monotonic()

    def stop(self, item: bytes) -> None:
        """Note that the run of a list item has ended."""
        self._started.pop(item[2:22], None)

    def has(self, id_: bytes) -> bool:
        """Return whether the task runs here."""
        return id_ in self._started

    def set_progress(self, id_: bytes, progress: Progress) -> None:
        """Tell the agent how far a run is: now, or a little later if it was told just now."""
        speech = SPEAKING.get(id_)
        if speech is None:
            speech = SPEAKING[id_] = Speech()
        now = time.monotonic()
        if now - speech.progress_sent_at >= PASS_ON_S:
            speech.progress_sent_at, speech.late_progress = now, None
            self._send((PROGRESS, id_, progress))
        else:
            speech.late_progress = progress
            self._pass_on_soon()

    def is_cancelled(self, id_: bytes) -> bool:
        """Return False: the agent kills the process instead of asking."""
        return False

    def deadline(self, id_: bytes) -> float | None:
        """Return when the time limit of a run ends, in seconds since the epoch. None without a limit."""
        item, started_at = self._started.get(id_, (b"", 0.0))
        limit = time_limit_of(item, self._timeout) if item else None
        return None if limit is None else time.time() + started_at + limit - time.monotonic()

    def attach(self, id_: bytes, speech: Speech) -> None:
        """Do nothing: only this process looks at it."""

    def add_line(self, line: TaskLine) -> None:
        """Take a line for one of the next messages."""
        self._lines.add(line)
        self._pass_on_soon()

    def end(self, id_: bytes, speech: Speech) -> None:
        """Tell the agent the last lines of a run before its outcome."""
        self._pass_on_lines()

    def _pass_on_soon(self) -> None:
        if self._sender is None:
            self._sender = threading.Thread(target=self._pass_on_for_ever, name="lines", daemon=True)
            self._sender.start()
        if not self._due.is_set():
            self._due.set()

    def _pass_on_for_ever(self) -> None:
        while True:
            self._due.wait()
            time.sleep(PASS_ON_S)
            self._due.clear()
            self._pass_on_lines()
            for id_, speech in list(SPEAKING.items()):
                progress, speech.late_progress = speech.late_progress, None
                if progress is not None:
                    speech.progress_sent_at = time.monotonic()
                    self._send((PROGRESS, id_, progress))

    def _pass_on_lines(self) -> None:
        # One thread at a time, so that the lines of a run are told before its outcome.
        with self._sending:
            lines, dropped = self._lines.take()
            told: dict[tuple[str, int], list[tuple[int, str]]] = {}
            for line in lines:
                told.setdefault((line.id, line.channel), []).append((line.at_ms, line.text))
            for (id_, channel), texts in told.items():
                self._send((LINES, id_.encode(), (channel, dropped, texts)))
                dropped = 0


def is_message(answer: Any) -> bool:
    """Return whether a child's answer is a valid message. A task may have replaced the code that makes it."""
    if type(answer) is not tuple or [type(part) for part in answer] != [bytes, bytes, tuple]:
        return False
    kind, id_, data = answer
    if len(id_) != 20 or len(data) != 3:
        return False
    if kind == PROGRESS:
        done, total, note = data
        return (
            type(done) in (int, float)
            and (total is None or type(total) in (int, float))
            and type(note) is str
        )
    channel, dropped, lines = data
    numbers = type(channel) is type(dropped) is int
    return kind == LINES and numbers and type(lines) is tuple and all(map(_is_line, lines))


def _is_line(line: Any) -> bool:
    return type(line) is tuple and [type(part) for part in line] == [int, str]
