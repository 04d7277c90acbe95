"""Names in the log the function that blocks the event loop."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from worker_agent.console.log import LOG
from worker_agent.protocol.unpatched import time

BLOCKED_S = 1.0
"""From when on a blocked loop is told."""
LOOK_S = 0.5
"""The time between two looks at the loop."""
STILL_BLOCKED_S = 10.0
"""When a loop that is still blocked is told, before its end is known."""
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_OWN = str(Path(__file__).resolve().parents[1])


class BlockedLoopWatch(threading.Thread):
    """Looks twice a second whether the loop answers, while it has tasks. `wake` starts the looks again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, has_tasks: Callable[[], bool]) -> None:
        super().__init__(name="blocked-loop", daemon=True)
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._has_tasks = has_tasks
        self._tasks_started = threading.Event()
        self._ended = threading.Event()
        self.wake = self._tasks_started.set

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._tasks_started.set()

    def run(self) -> None:
        """Look until ended."""
        while not self._ended.is_set():
            self._tasks_started.wait()
            self._tasks_started.clear()
            while self._has_tasks() and not self._ended.is_set():
                self._look()
                self._ended.wait(LOOK_S)

    def _look(self) -> None:
        answered = threading.Event()
        asked = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            self._ended.set()
            return
        if answered.wait(BLOCKED_S):
            return
        if not (where := self._where()):
            # The process gets no CPU time, or another thread holds the GIL: no coroutine is to blame.
            answered.wait(STILL_BLOCKED_S)
            return
        if not answered.wait(STILL_BLOCKED_S - BLOCKED_S):
            LOG.warning("blocks the event loop for more than %g s: %s", STILL_BLOCKED_S, where)
            while not answered.wait(1.0):
                if self._ended.is_set() or self._loop.is_closed():
                    return
        LOG.warning(
            "blocked the event loop for %.1f s: %s; no other task went on meanwhile. Await in it, or make it a plain "
            "function",
            time.monotonic() - asked, where,
        )  # fmt: skip

    def _where(self) -> str:
        """Return the function of the job that the loop's thread is in, as `fetch, job.py:14`, or ''."""
        frame = sys._current_frames().get(self._loop_thread)
        while frame is not None and _is_library(frame):
            frame = frame.f_back
        if frame is None:
            return ""
        code = frame.f_code
        return f"{code.co_name}, {Path(code.co_filename).name}:{frame.f_lineno}"


def _is_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((*_LIBRARIES, _OWN, "<frozen")) or not file.endswith(".py")
