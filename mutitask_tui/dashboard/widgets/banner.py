"""The line that says what is wrong with Redis: that what is on the screen is old, or that the server waits."""

from __future__ import annotations

from dataclasses import dataclass

from textual.widgets import Static

from mutitask_tui.dashboard.formats import clock, span, zone
from mutitask_tui.dashboard.safe_text import safe_text


@dataclass(frozen=True, slots=True)
class Trouble:
    """Since when, and why, no snapshot comes, or the server waits. Times are on this machine's clock.

    `stale` is whether what is on the screen is old.
    """

    headline: str
    since_ms: int
    now_ms: int
    why: str
    stale: bool = True


class Banner(Static):
    """Hidden while snapshots come and the server does not wait."""

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
