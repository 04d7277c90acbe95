"""In a child process, what MutiTask itself logs goes to the agent: to its stderr and to the screen of its device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from worker_agent.console.log import LOG

LOGGED = b"g"
"""The kind of the messages: `(LOGGED, level, text)`, with the number that `logging` has for the level."""
MAX_CHARACTERS = 2_000


class _ToAgent(logging.Handler):
    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record. Its text is cut to `MAX_CHARACTERS`."""
        try:
            text = record.getMessage()[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
            self._send((LOGGED, record.levelno, text))
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def logging_to_agent(send: Callable[[Any], None]) -> Iterator[None]:
    """Let the agent log what this process logs meanwhile. `send` sends one message, whole, from any thread."""
    handlers, propagates = LOG.handlers, LOG.propagate
    LOG.handlers, LOG.propagate = [_ToAgent(send)], False
    try:
        yield
    finally:
        LOG.handlers, LOG.propagate = handlers, propagates


def log_for_child(answer: Any) -> bool:
    """Log what a child has logged. Return False if its answer is something else."""
    if (
        type(answer) is not tuple
        or [type(part) for part in answer] != [bytes, int, str]
        or answer[0] != LOGGED
    ):
        return False
    _, level, text = answer
    LOG.log(min(max(level, logging.DEBUG), logging.CRITICAL), "%s", text)
    return True
