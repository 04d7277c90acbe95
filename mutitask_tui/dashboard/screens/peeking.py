"""A screen that asks Redis for more than snapshots hold, while it is open and only then."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from textual import on, work
from textual.message import Message

from mutitask_tui.dashboard.screens.frame import FrameScreen
from worker_agent.protocol.pristine import time


class PeekingScreen(FrameScreen):
    """Calls `peek` in a thread, at most every `EVERY_S`, and hands what it returned to `show_peeked`."""

    EVERY_S: ClassVar[float] = 1.0

    class Peeked(Message):
        """What was asked for came."""

        def __init__(self, found: Any) -> None:
            super().__init__()
            self.found = found

    class PeekFailed(Message):
        """It did not come, and why."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    _peeking = False
    _peeked_s = float("-inf")

    @abstractmethod
    def peek(self) -> Any:
        """Ask the link; runs in a thread."""

    @abstractmethod
    def show_peeked(self, found: Any) -> None:
        """Show what `peek` returned."""

    def peek_soon(self) -> None:
        """Ask, unless that was done a moment ago or is being done."""
        if not self._peeking and time.monotonic() - self._peeked_s >= self.EVERY_S:
            self.peek_now()

    def peek_now(self) -> None:
        """Ask."""
        self._peeking = True
        self._peeked_s = time.monotonic()
        self._peek()

    @work(thread=True, exit_on_error=False, group="peek")
    def _peek(self) -> None:
        try:
            found = self.peek()
        except Exception as error:  # said; the view goes on
            self.post_message(self.PeekFailed(error))
        else:
            self.post_message(self.Peeked(found))

    @on(Peeked)
    def _peek_came(self, event: Peeked) -> None:
        self._peeking = False
        self.show_peeked(event.found)

    @on(PeekFailed)
    def _peek_failed(self, event: PeekFailed) -> None:
        self._peeking = False
        if self.host.trouble is None:
            self.host.show_status(f"could not be read: {event.error}", "bad")
