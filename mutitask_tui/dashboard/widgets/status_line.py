"""The line above the footer: what was asked, what came of it, and what the keys act on."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.header import FAINT, TONES
from worker_agent.protocol.words import plural

_GLYPHS: dict[Tone, str] = {"calm": "…", "good": "✓", "warn": "!", "bad": "✗", "faint": " "}


class StatusLine(Static):
    """Left the last act, right the selection."""

    DEFAULT_CSS = """
    StatusLine { height: 1; padding: 0 1; background: $surface; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._said: tuple[str, Tone] = ("", "faint")
        self._selection = Selection()

    @property
    def said(self) -> str:
        """The last act's line."""
        return self._said[0]

    def say(self, text: str, tone: Tone) -> None:
        """Show an act or its outcome."""
        self._said = (safe_str(text, 300), tone)
        self._draw()

    def show_selection(self, selection: Selection) -> None:
        """Show what the keys act on."""
        if selection != self._selection:
            self._selection = selection
            self._draw()

    def on_resize(self) -> None:
        """Keep the selection at the right edge."""
        self._draw()

    def _draw(self) -> None:
        text, tone = self._said
        left = Content.styled(f"{_GLYPHS[tone]} {text}" if text else "", TONES[tone])
        right = Content.styled(_names(self._selection), FAINT)
        room = max(0, self.content_size.width - right.cell_length - 1)
        left = left.truncate(room, ellipsis=True) if left.cell_length > room else left
        self.update(Content.assemble(left, " " * (room - left.cell_length + 1), right), layout=False)


def _names(selection: Selection) -> str:
    names = []
    hidden = f" ({selection.hidden:,} hidden)" if selection.hidden else ""
    if selection.fails:
        names.append(f"{len(selection.fails):,} marked{hidden}")
    elif selection.fail is not None:
        names.append(f"task {safe_str(selection.fail[1], 24)}")
    if selection.devices:
        names.append(f"{plural(len(selection.devices), 'device')} marked{hidden}")
    elif selection.device is not None:
        names.append(f"Device{selection.device}")
    if selection.channel is not None:
        names.append(f"TaskChannel{selection.channel}")
    return " · ".join(names)
