"""Writes every line that MutiTask prints or logs: as printable text of bounded length."""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import Any

from worker_agent.console import log_format, streams
from worker_agent.protocol.printable import printable, printable_json
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.unpatched import json

_MAX_TRACEBACK_CHARACTERS = 100_000


def print_stderr(text: str, level: str = "", *, at: str = "") -> None:
    """Print one line on the saved stderr, as text or as JSON (`log_format.py`). Does nothing if that stream is gone.

    A line of text begins with the time `at`, if it is given. `level` is `info`, `warning` or `error`; a line without
    one is always printed.
    """
    if level and log_format.number_of(level) < log_format.least_level():
        return
    shown = f"{at} {text}" if at else text
    line = log_format.json_line(level or "info", text) if log_format.is_json() else printable(shown)
    with contextlib.suppress(OSError, ValueError):
        print(line, file=streams.stderr(), flush=True)


def print_task_line(item: bytes, channel: int, device: int, level: str, text: str) -> None:
    """Print one line of a task on the saved stderr, with its device, channel and task number, in one write."""
    if log_format.is_json():
        line = log_format.json_line(level, text, {"device": device, **log_format.about(item, channel)})
    else:
        line = f"Device{device} ch{channel} #{int(item[10:22])}: {printable(text)}"
    with contextlib.suppress(OSError, ValueError):
        stream = streams.stderr()
        stream.write(line + "\n")
        stream.flush()


def print_traceback() -> None:
    """Print the traceback of the current exception on the saved stderr, for `--debug`."""
    with contextlib.suppress(OSError, ValueError):
        for line in traceback.format_exc()[-_MAX_TRACEBACK_CHARACTERS:].splitlines():
            # The prefix keeps a message of several lines from looking like lines of MutiTask.
            print(f"| {printable(line)}", file=streams.stderr(), flush=True)


def print_stdout(*texts: str) -> None:
    """Print the output of a command on stdout, one line for each text."""
    for text in texts:
        print(printable(text), flush=True)  # noqa: T201


def print_json(data: Any) -> None:
    """Print data on stdout as one line of JSON."""
    print(printable_json(json.dumps(data)), flush=True)  # noqa: T201


def make_printable(record: logging.LogRecord) -> bool:
    """Make a log record's text printable. A logger's filter, so it holds for any handler of a program."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({in_one_line(record.exc_info[1])})"
    record.msg, record.args = printable(text), None
    record.exc_info = record.exc_text = record.stack_info = None
    return True
