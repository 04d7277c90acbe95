"""The form of the lines on stderr: text for people, or one JSON object a line (`--log-format`), from a level on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from worker_agent.protocol.printable import printable, printable_json
from worker_agent.protocol.unpatched import json, time

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
FORMAT_VARIABLE, LEVEL_VARIABLE = "MUTITASK_LOG_FORMAT", "MUTITASK_LOG_LEVEL"
"""The environment variables that choose the form. A program tells its child processes with them."""

CONTEXT: dict[str, Any] = {}
"""The fields that hold for all lines of this process, such as `device`."""
TASK_FIELDS = ("channel", "task", "run")
"""The fields of a line about one task: numbers of its channel and of the task, and the id of the run of the server."""


def set_form(log_format: str | None, level: str | None) -> None:
    """Choose the form of this process's lines, and of its child processes' lines. None leaves it as it is."""
    for variable, value in ((FORMAT_VARIABLE, log_format), (LEVEL_VARIABLE, level)):
        if value is not None:
            os.environ[variable] = value


def is_json() -> bool:
    """Return whether lines are JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def least_level() -> int:
    """Return the level from which on lines are written, as a number of `logging`."""
    return number_of(os.environ.get(LEVEL_VARIABLE, "info"))


def number_of(level: str) -> int:
    """Return a level as `logging` knows it."""
    return logging.getLevelNamesMapping().get(level.upper(), logging.INFO)


def about(item: bytes, channel: int) -> dict[str, Any]:
    """Return the fields of a line about a task, for the argument `extra` of a logger's methods."""
    return {"channel": channel, "task": int(item[10:22]), "run": item[2:10].decode("ascii", "replace")}


def json_line(level: str, text: str, fields: Mapping[str, Any] | None = None, at: float | None = None) -> str:
    """Return one JSON object: ts (UTC), level, the fields, message. `at` is in seconds since the epoch."""
    stamp = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    ts = stamp.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    parts = {"ts": ts, "level": level, **CONTEXT, **(fields or {}), "message": printable(text)}
    return printable_json(json.dumps(parts))


class JsonFormatter(logging.Formatter):
    """Makes one JSON object of each log record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {name: getattr(record, name) for name in TASK_FIELDS if hasattr(record, name)}
        return json_line(record.levelname.lower(), record.getMessage(), fields, record.created)
