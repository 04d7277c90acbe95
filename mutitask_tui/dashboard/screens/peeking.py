"""A screen that reads more from Redis than a snapshot holds, while it is open."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from textual import on, work
from textual.message import Message

from mutitask_tui.dashboard.screens.frame import FrameScreen
from worker_agent.protocol.unpatched import time


class PeekingScreen(FrameScreen):
    """Calls `peek` in a thread and passes the result to `show_peeked`."""

    EVERY_S: ClassVar[float] = 1.0
    """The shortest time between two calls of `peek`, in seconds."""

    class Peeked(Message):
        """Posted with the result of `peek`."""

        def __init__(self, result: Any) -> None:
            super().__init__()
            self.result = result

    class PeekFailed(Message):
        """Posted with the error of `peek`."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    _peeking = False
    _peeked_s = float("-inf")

    @abstractmethod
    def peek(self) -> Any:
        """Read from the backend. Runs in a thread."""

    @abstractmethod
    def show_peeked(self, result: Any) -> None:
        """Show the result of `peek`."""

    def peek_soon(self) -> None:
        """Call `peek`, unless a call is running or the last one was less than `EVERY_S` ago."""
        if not self._peeking and time.monotonic() - self._peeked_s >= self.EVERY_S:
            self.peek_now()

    def peek_now(self) -> None:
        """Call `peek` now."""
        self._peeking = True
        self._peeked_s = time.monotonic()
        self._peek()

    @work(thread=True, exit_on_error=False, group="peek")
    def _peek(self) -> None:
        try:
            result = self.peek()
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.PeekFailed(error))
        else:
            self.post_message(self.Peeked(result))

    @on(Peeked)
    def _peek_done(self, event: Peeked) -> None:
        self._peeking = False
        self.show_peeked(event.result)

    @on(PeekFailed)
    def _peek_failed(self, event: PeekFailed) -> None:
        self._peeking = False
        if self.host.trouble is None:
            self.host.show_status(f"cannot read: {event.error}", "bad")
