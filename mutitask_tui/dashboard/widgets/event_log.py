"""The event log: the newest lines, following the end unless a person has scrolled up."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mutitask_tui.dashboard.formats import clock, fit
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.snapshot import Event

_KEPT = 2000
_GLYPHS = {"info": "·", "warning": "!", "error": "✗"}


class EventLog(ScrollView, can_focus=True):
    """One line for each event; drawn by the line API, so that themes recolour old lines too."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "event--time",
        "event--who",
        "event--info",
        "event--warning",
        "event--error",
    }

    DEFAULT_CSS = """
    EventLog {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > .event--time { color: $text-muted; }
        & > .event--who { color: $text-primary; }
        & > .event--info { color: $foreground; }
        & > .event--warning { color: $text-warning; }
        & > .event--error { color: $text-error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: deque[Event] = deque(maxlen=_KEPT)
        self._following = True

    def show(self, events: Sequence[Event]) -> None:
        """Append those of `events` (oldest first) that are not here yet."""
        new = _unseen(events, self.lines[-1].id if self.lines else None)
        if not new:
            return
        dropped = max(0, len(self.lines) + len(new) - _KEPT)
        self.lines.extend(new)
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.lines))
        if self._following:
            self.scroll_end(animate=False)
        elif dropped:
            self.scroll_to(y=self.scroll_y - dropped, animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """Keep to the end where the log was at the end."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.lines))
        if self._following:
            self.scroll_end(animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls up stops the following, whoever scrolls to the end resumes it."""
        super().watch_scroll_y(old_value, new_value)
        self._following = round(new_value) >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        """The strip at line `y` of what can be seen."""
        width = self.scrollable_content_region.width
        place = self.scroll_offset.y + y
        base = self.rich_style
        if place >= len(self.lines):
            return Strip.blank(width, base)
        event = self.lines[place]
        level = self.get_component_rich_style(f"event--{event.level}")
        who = fit(safe_str(event.who, 60), 12)
        time = f" {clock(event.at_ms)} "
        text = f"{_GLYPHS[event.level]} {safe_str(event.text, 400)}"
        parts = [
            Segment(time, self.get_component_rich_style("event--time")),
            Segment(f"{who} ", self.get_component_rich_style("event--who")),
            Segment(fit(text, width - len(time) - 13), level),
        ]
        return Strip(parts).adjust_cell_length(width, base)


def _unseen(events: Sequence[Event], last: str | None) -> list[Event]:
    """The events after the one with id `last`; all of them if it is not among them."""
    for place in range(len(events) - 1, -1, -1):
        if events[place].id == last:
            return list(events[place + 1 :])
    return list(events)
