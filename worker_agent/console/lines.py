"""The one way out for every line that we print or log: printable, and of bounded length."""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import Any

from worker_agent.console import streams
from worker_agent.protocol.printable import printable, printable_json
from worker_agent.protocol.pristine import json
from worker_agent.protocol.reasons import in_one_line

_MOST_CHARACTERS = 100_000
"""Of a traceback."""


def tell(text: str) -> None:
    """One line on our own stderr, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=streams.errors(), flush=True)


def tell_traceback() -> None:
    """The traceback of the error that is being handled, on our own stderr: for `--debug`."""
    with contextlib.suppress(OSError, ValueError):
        for line in traceback.format_exc()[-_MOST_CHARACTERS:].splitlines():
            # A message of several lines must not look like lines of ours.
            print(f"| {printable(line)}", file=streams.errors(), flush=True)


def show(*texts: str) -> None:
    """Lines on stdout: what a command was asked for."""
    for text in texts:
        print(printable(text), flush=True)  # noqa: T201


def show_json(data: Any) -> None:
    """Data on stdout, as one line of JSON."""
    print(printable_json(json.dumps(data)), flush=True)  # noqa: T201


def make_printable(record: logging.LogRecord) -> bool:
    """A filter for our loggers: the record's text becomes printable, whichever handlers a program has."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({in_one_line(record.exc_info[1])})"
    record.msg, record.args = printable(text), None
    record.exc_info = record.exc_text = record.stack_info = None
    return True
