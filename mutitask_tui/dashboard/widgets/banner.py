"""The line that says that what is on the screen is old, and why."""

from __future__ import annotations

from dataclasses import dataclass

from textual.widgets import Static

from mutitask_tui.dashboard.formats import clock, span, zone
from mutitask_tui.dashboard.safe_text import safe_text


@dataclass(frozen=True, slots=True)
class Trouble:
    """Since when, and why, no snapshot comes. `since_ms` and `now_ms` are on this machine's clock."""

    headline: str
    since_ms: int
    now_ms: int
    why: str


class Banner(Static):
    """Hidden while snapshots come."""

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
        """Say it, or be gone."""
        self.set_class(trouble is not None, "-on")
        if trouble is not None:
            lost = span((trouble.now_ms - trouble.since_ms) / 1000)
            since = f"{clock(trouble.since_ms)} {zone(trouble.since_ms)}"
            text = f"✗ {trouble.headline} since {since} ({lost}): {trouble.why} … retrying"
            self.update(safe_text(text, 400))
