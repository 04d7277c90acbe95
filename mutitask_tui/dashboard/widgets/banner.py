"""A banner that reports a problem with Redis."""

from __future__ import annotations

from dataclasses import dataclass

from textual.widgets import Static

from mutitask_tui.dashboard.formats import clock, span, zone
from mutitask_tui.dashboard.safe_text import safe_text


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem with Redis: the dashboard gets no snapshots, or the server waits for Redis."""

    headline: str
    """The problem in a few words."""
    since_ms: int
    """When the problem started, in ms on this machine's clock."""
    now_ms: int
    """The present time, in ms on this machine's clock."""
    why: str
    """The cause, such as the text of an error."""
    stale: bool = True
    """Whether the screen shows old data."""


class Banner(Static):
    """Show a `Trouble` on one to three lines. The banner is hidden while there is none."""

    DEFAULT_CSS = """
    Banner {
        display: none;
        height: auto;
        max-height: 3;
        padding: 0 1;
        background: $error-muted;
        color: $text-error;
        text-style: bold;
        &.-on { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)

    def show(self, trouble: Trouble | None) -> None:
        """Show `trouble`, or hide the banner if it is None."""
        self.set_class(trouble is not None, "-on")
        if trouble is not None:
            duration = span((trouble.now_ms - trouble.since_ms) / 1000)
            since = f"{clock(trouble.since_ms)} {zone(trouble.since_ms)}"
            text = f"✗ {trouble.headline} since {since} ({duration}): {trouble.why} … retrying"
            self.update(safe_text(text, 400))
