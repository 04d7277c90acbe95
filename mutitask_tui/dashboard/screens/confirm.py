"""The dialog that asks for confirmation. Cancel has the focus."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from mutitask_tui.dashboard.safe_text import safe_text
from mutitask_tui.dashboard.screens.dialog import Dialog


class ConfirmScreen(Dialog[bool]):
    """Ask whether to run a command. The result is True only if the user confirms."""

    AUTO_FOCUS = "#cancel"

    def __init__(self, line: str, target: str, summary: str) -> None:
        """Create the dialog.

        `line` is the command as typed, `target` says exactly what it acts on, and `summary` what it does.
        """
        super().__init__()
        self._line = line
        self._target = target
        self._summary = summary

    def compose(self) -> ComposeResult:
        """Create the question and the two buttons."""
        with Vertical(classes="dialog -danger") as box:
            box.border_title = Content.assemble(" ", safe_text(self._line, 60), "? ")
            yield Static(safe_text(self._target, 500), classes="text", markup=False)
            yield Static(
                safe_text(f"{self._summary[:1].upper()}{self._summary[1:]}.", 300),
                classes="text faint",
                markup=False,
            )
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Do it", id="yes", variant="error", compact=True)

    @on(Button.Pressed)
    def _answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
