"""Passes on what tasks print and log: each line to stderr with its task's number, and to the device's screen."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

from worker_agent.console import lines, streams
from worker_agent.execution.current_task import TASK_LOG, CurrentEntry, current_entry, registry_of
from worker_agent.execution.speech import SPEAKING, Speech, cut_line, tail_of
from worker_agent.protocol.task_line import TaskLine
from worker_agent.protocol.unpatched import time

STDOUT, STDERR = 0, 1
MAX_SPEAKING = 50_000
"""Above this number of runs that have said something, what is known of them is forgotten: most have ended."""
MAX_OPEN_CHARACTERS = 8_192
"""Text without a newline is passed on as a line at this length."""


class TaskStream:
    """Stands for `sys.stdout` or `sys.stderr`. It takes what tasks print, and lets all other text through.

    With `through`, what tasks print goes on to the wrapped stream too, as it is.
    """

    def __init__(self, wrapped: TextIO, which: int, *, through: bool) -> None:
        self.wrapped = wrapped
        self._which = which
        self._through = through

    def write(self, text: str) -> int:
        """Take a text, and return its length. Outside of runs, write it to the wrapped stream."""
        current = current_entry()
        if current is None or not isinstance(text, str):
            return self.wrapped.write(text)
        _take(current, self._which, text)
        return self.wrapped.write(text) if self._through else len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write each of these texts."""
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        """Return everything else from the wrapped stream: its descriptor, its encoding, `flush`, `buffer`."""
        return getattr(self.wrapped, name)


class TaskHandler(logging.Handler):
    """Passes on what tasks log. Records from elsewhere go to `otherwise`, as they would without this handler."""

    def __init__(self, otherwise: logging.Handler | None) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record, which may have several lines."""
        current = current_entry()
        if current is None:
            if self._otherwise is not None and record.levelno >= self._otherwise.level:
                self._otherwise.handle(record)
            return
        try:
            for line in self.format(record).splitlines():
                _pass_on(current, _speech_of(current), line, record.levelname.lower())
        except Exception:
            self.handleError(record)


class _Capture:
    """The streams and the settings of `logging` that were replaced."""

    def __init__(self) -> None:
        self.users = 0
        self.streams: tuple[TextIO | None, TextIO | None] = (None, None)
        self.last_resort = logging.lastResort
        self.root_level: int | None = None
        self.moved: list[tuple[Any, TextIO]] = []
        """Handlers of the program that wrote to a replaced stream, each with that stream."""


_capture = _Capture()
TASK_LOG.addHandler(TaskHandler(logging.lastResort))


def capture_streams() -> None:
    """Take what tasks print from now on. Called before a job is imported, so that the job finds these streams."""
    _capture.users += 1
    if _capture.users > 1:
        return
    _capture.streams = sys.stdout, sys.stderr
    streams.keep_stderr(sys.stderr)
    apart = streams.stdout_is_apart()
    if sys.stdout is not None:
        sys.stdout = cast("TextIO", TaskStream(sys.stdout, STDOUT, through=apart))
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", TaskStream(sys.stderr, STDERR, through=False))


def capture_logging() -> None:
    """Take what tasks log from now on, from INFO. Called after the job is imported: what it has set up holds.

    Records for which the job has no handler go to the handler of last resort, as always. Handlers that write to stdout
    or stderr write to the streams of `capture_streams`.
    """
    if not _capture.users or isinstance(logging.lastResort, TaskHandler):
        return
    root = logging.getLogger()
    if not root.handlers and root.level == logging.WARNING:
        _capture.root_level = root.level
        root.setLevel(logging.INFO)
    _capture.last_resort = logging.lastResort
    logging.lastResort = TaskHandler(_capture.last_resort)
    for handler in root.handlers:
        for wrapped, stream in zip(_capture.streams, (sys.stdout, sys.stderr), strict=True):
            if (
                isinstance(handler, logging.StreamHandler)
                and wrapped is not None
                and handler.stream is wrapped
            ):
                handler.setStream(stream)
                _capture.moved.append((handler, wrapped))


def release() -> None:
    """Give the streams and the settings of `logging` back, once each caller of `capture_streams` has called this."""
    _capture.users -= 1
    if _capture.users:
        return
    if isinstance(sys.stdout, TaskStream):
        sys.stdout = sys.stdout.wrapped
    if isinstance(sys.stderr, TaskStream):
        sys.stderr = sys.stderr.wrapped
    for handler, stream in _capture.moved:
        handler.setStream(stream)
    _capture.moved.clear()
    logging.lastResort = _capture.last_resort
    if _capture.root_level is not None:
        logging.getLogger().setLevel(_capture.root_level)
        _capture.root_level = None
    streams.keep_stderr(None)


def end_run(current: CurrentEntry) -> None:
    """Pass on what a run printed without a newline, and forget the run. Called if any run has spoken. Never raises."""
    id_ = current[0][2:22]
    speech = SPEAKING.pop(id_, None)
    if speech is None:
        return
    with contextlib.suppress(Exception):
        _close_lines(current, speech)
        if (registry := registry_of(id_)) is not None:
            registry.end(id_, speech)


def last_lines() -> list[str]:
    """Return the last lines of the current run, which failed, at most `MAX_FAILURE_BYTES`."""
    current = current_entry()
    speech = SPEAKING.get(current[0][2:22]) if current is not None else None
    if current is None or speech is None:
        return []
    _close_lines(current, speech)
    return tail_of(speech)


def _take(current: CurrentEntry, which: int, text: str) -> None:
    """Pass on each whole line of what a task prints. A carriage return starts its line again, as on a terminal."""
    speech = _speech_of(current)
    *whole, rest = (speech.open_lines[which] + text).split("\n")
    for line in whole:
        _pass_on(current, speech, _after_return(line))
    rest = _after_return(rest) + ("\r" if rest.endswith("\r") else "")
    if len(rest) > MAX_OPEN_CHARACTERS:
        _pass_on(current, speech, rest)
        rest = ""
    speech.open_lines[which] = rest


def _after_return(line: str) -> str:
    line = line.rstrip("\r")
    return line[line.rfind("\r") + 1 :]


def _close_lines(current: CurrentEntry, speech: Speech) -> None:
    for which, rest in enumerate(speech.open_lines):
        if rest:
            speech.open_lines[which] = ""
            _pass_on(current, speech, _after_return(rest))


def _speech_of(current: CurrentEntry) -> Speech:
    id_ = current[0][2:22]
    speech = SPEAKING.get(id_)
    if speech is None:
        # What a run has left on the event loop may speak after its end.
        if len(SPEAKING) > MAX_SPEAKING:
            SPEAKING.clear()
        speech = SPEAKING[id_] = Speech()
        if (registry := registry_of(id_)) is not None:
            registry.attach(id_, speech)
    return speech


def _pass_on(current: CurrentEntry, speech: Speech, text: str, level: str = "info") -> None:
    item, channel, device = current
    lines.print_task_line(item, channel, device, level, text)
    if not _capture.users:
        return
    kept, id_ = cut_line(text), item[2:22]
    speech.tail.append(kept)
    if (registry := registry_of(id_)) is not None:
        registry.add_line(
            TaskLine(time.time_ns() // 1_000_000, channel, id_.decode("ascii", "replace"), kept)
        )
