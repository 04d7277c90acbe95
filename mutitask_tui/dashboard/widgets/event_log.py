"""The event log, with a filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.cells import cell_len

from mutitask_tui.dashboard.formats import clock, fit
from mutitask_tui.dashboard.model.text_filter import matches
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.tail_view import Piece, TailView
from mutitask_tui.server.snapshot import Event

_MAX_EVENTS = 2000
_MIN_WHO_WIDTH = 12
"""The smallest width of the column that names the actor, in cells."""
_GLYPHS = {"info": "·", "warning": "!", "error": "✗"}


class EventLog(TailView[Event]):
    """Show the newest events, one line each."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: deque[Event] = deque(maxlen=_MAX_EVENTS)
        """The newest events, oldest first, without the filter."""
        self._who_width = _MIN_WHO_WIDTH
        self.filter_text = ""
        """The filter. Empty shows all events."""

    def show(self, events: Sequence[Event]) -> None:
        """Append the new ones of `events`, which are ordered oldest first."""
        new = _new_events(events, self.lines[-1].id if self.lines else None)
        if not new:
            return
        dropped = max(0, len(self.lines) + len(new) - _MAX_EVENTS)
        self.lines.extend(new)
        self._who_width = max(self._who_width, *(cell_len(safe_str(event.source, 60)) for event in new))
        self.show_lines(self._matching(), 0 if self.filter_text.strip() else dropped)

    def filter_by(self, filter_text: str) -> None:
        """Show only the events that match `filter_text`, and scroll to the newest."""
        if filter_text != self.filter_text:
            self.filter_text = filter_text
            self._following = True
            self.show_lines(self._matching())

    def pieces(self, item: Event, width: int) -> list[Piece]:
        """Return the time, the actor and the text of an event."""
        time = f" {clock(item.at_ms)} "
        who_width = max(_MIN_WHO_WIDTH, min(self._who_width, width // 4))
        who = fit(safe_str(item.source, 60), who_width)
        text = f"{_GLYPHS[item.level]} {safe_str(item.text, 400)}"
        return [
            (time, "time"),
            (f"{who} ", "who"),
            (fit(text, width - len(time) - who_width - 1), item.level),
        ]

    def _matching(self) -> Sequence[Event]:
        if not self.filter_text.strip():
            return self.lines
        return [
            event
            for event in self.lines
            if matches(f"{clock(event.at_ms)} {event.level} {event.source} {event.text}", self.filter_text)
        ]


def _new_events(events: Sequence[Event], last: str | None) -> list[Event]:
    """Return the events after the one with id `last`, or all of them if it is not there."""
    for index in range(len(events) - 1, -1, -1):
        if events[index].id == last:
            return list(events[index + 1 :])
    return list(events)
