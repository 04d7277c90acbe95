"""The event log: the newest lines, narrowed down by a filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.cells import cell_len

from mutitask_tui.dashboard.formats import clock, fit
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.line_input import matches
from mutitask_tui.dashboard.widgets.tail_view import Piece, TailView
from mutitask_tui.server.snapshot import Event

_KEPT = 2000
_WHO = 12
"""The column of who did it has so many cells at least."""
_GLYPHS = {"info": "·", "warning": "!", "error": "✗"}


class EventLog(TailView[Event]):
    """One line for each event."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: deque[Event] = deque(maxlen=_KEPT)
        self._who_width = _WHO
        self.wanted = ""
        """The filter's words."""

    def show(self, events: Sequence[Event]) -> None:
        """Append those of `events` (oldest first) that are not here yet."""
        new = _unseen(events, self.lines[-1].id if self.lines else None)
        if not new:
            return
        dropped = max(0, len(self.lines) + len(new) - _KEPT)
        self.lines.extend(new)
        self._who_width = max(self._who_width, *(cell_len(safe_str(event.who, 60)) for event in new))
        self.show_lines(self._found(), 0 if self.wanted.strip() else dropped)

    def filter_by(self, wanted: str) -> None:
        """Show only the events that match."""
        if wanted != self.wanted:
            self.wanted = wanted
            self._following = True
            self.show_lines(self._found())

    def pieces(self, item: Event, width: int) -> list[Piece]:
        """Time, who, and what happened."""
        time = f" {clock(item.at_ms)} "
        room = max(_WHO, min(self._who_width, width // 4))
        who = fit(safe_str(item.who, 60), room)
        text = f"{_GLYPHS[item.level]} {safe_str(item.text, 400)}"
        return [(time, "time"), (f"{who} ", "who"), (fit(text, width - len(time) - room - 1), item.level)]

    def _found(self) -> Sequence[Event]:
        if not self.wanted.strip():
            return self.lines
        return [e for e in self.lines if matches(f"{clock(e.at_ms)} {e.level} {e.who} {e.text}", self.wanted)]


def _unseen(events: Sequence[Event], last: str | None) -> list[Event]:
    """The events after the one with id `last`; all of them if it is not among them."""
    for place in range(len(events) - 1, -1, -1):
        if events[place].id == last:
            return list(events[place + 1 :])
    return list(events)
