"""The status line above the footer: the last message at the left, the selection at the right."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.header import FAINT, TONES
from worker_agent.protocol.text import plural

_GLYPHS: dict[Tone, str] = {"calm": "…", "good": "✓", "warn": "!", "bad": "✗", "faint": " "}


class StatusLine(Static):
    """Show the last message and what the keys act on."""

    DEFAULT_CSS = """
    StatusLine { height: 1; padding: 0 1; background: $surface; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._message: tuple[str, Tone] = ("", "faint")
        self._selection = Selection()

    @property
    def message(self) -> str:
        """The last message."""
        return self._message[0]

    def show_message(self, text: str, tone: Tone) -> None:
        """Show a message, such as a command or its outcome."""
        self._message = (safe_str(text, 300), tone)
        self._draw()

    def show_selection(self, selection: Selection) -> None:
        """Show the names of the selected items."""
        if selection != self._selection:
            self._selection = selection
            self._draw()

    def on_resize(self) -> None:
        """Draw again, so that the selection stays at the right edge."""
        self._draw()

    def _draw(self) -> None:
        text, tone = self._message
        left = Content.styled(f"{_GLYPHS[tone]} {text}" if text else "", TONES[tone])
        right = Content.styled(_selection_text(self._selection), FAINT)
        room = max(0, self.content_size.width - right.cell_length - 1)
        left = left.truncate(room, ellipsis=True) if left.cell_length > room else left
        self.update(Content.assemble(left, " " * (room - left.cell_length + 1), right), layout=False)


def _selection_text(selection: Selection) -> str:
    names = []
    hidden = f" ({selection.hidden:,} hidden)" if selection.hidden else ""
    if selection.fails:
        names.append(f"{len(selection.fails):,} marked{hidden}")
    elif selection.fail is not None:
        names.append(f"task {safe_str(selection.fail[1], 24)}")
    if selection.task is not None:
        names.append(f"task #{safe_str(selection.task[1][8:].lstrip('0') or 0, 24)}")
    if selection.devices:
        names.append(f"{plural(len(selection.devices), 'device')} marked{hidden}")
    elif selection.device is not None:
        names.append(f"Device{selection.device}")
    if selection.channel is not None:
        names.append(f"TaskChannel{selection.channel}")
    return " · ".join(names)
