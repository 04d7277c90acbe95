"""Follows a long command: tells how far it is, and asks it to stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from worker_agent.protocol.unpatched import time

TELL_S = 0.25
"""How often a command tells how far it is, in seconds."""


class Watch:
    """The watcher of one command.

    The command calls `tell` after each step, and ends soon after `stop`. `on_progress` gets a text such as
    `reloaded 120,000 of 1,000,000`, in the thread of the command, and at most every `every_s`.
    """

    def __init__(
        self, on_progress: Callable[[str], object] = lambda _text: None, every_s: float = TELL_S
    ) -> None:
        self._on_progress = on_progress
        self._every_s = every_s
        self._told_s = time.monotonic()
        self._stopped = threading.Event()
        self.progress = ""
        """The last text."""

    @property
    def stopped(self) -> bool:
        """Whether the command should end before it is finished."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ask the command to end after its present step."""
        self._stopped.set()

    def tell(self, verb: str, done: int, total: int) -> None:
        """Tell that `done` of `total` items are done."""
        now = time.monotonic()
        if now - self._told_s >= self._every_s:
            self._told_s = now
            self.progress = f"{verb} {done:,} of {max(done, total):,}"
            self._on_progress(self.progress)


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Let this watch follow the command that is carried out in the block."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def current_watch() -> Watch:
    """Return the watch of the command that this thread carries out; one that does nothing if there is none."""
    return _watch.get() or Watch()
