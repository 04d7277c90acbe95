"""The dialog that shows the command to start an agent on another machine."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from mutitask_tui.dashboard.safe_text import safe_str, safe_text
from mutitask_tui.dashboard.screens.dialog import Dialog


class JoinScreen(Dialog[None]):
    """Show the command, with a button to copy it. Copying uses OSC 52, so it works through SSH."""

    AUTO_FOCUS = "#copy"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy", show=False)]
    DEFAULT_CSS = """
    JoinScreen .dialog { width: 100; }
    JoinScreen .warning { color: $text-warning; margin-top: 1; }
    """

    def __init__(self, line: str, note: str = "") -> None:
        """Create the dialog. `note` says what another machine needs first; it may be empty."""
        super().__init__()
        self._note = note
        self._line = safe_str(line, 1000)

    def compose(self) -> ComposeResult:
        """Create the text and the buttons."""
        with Vertical(classes="dialog") as box:
            box.border_title = " Join from another machine "
            yield Static(safe_text("Type this where the job file is:"), classes="text faint", markup=False)
            yield Static(safe_text(self._line, 1000), classes="text", markup=False)
            if self._note:
                yield Static(safe_text(f"! {self._note}", 600), classes="text warning", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", compact=True)
                yield Button("Copy (y)", id="copy", variant="primary", compact=True)

    @on(Button.Pressed, "#close")
    def _close(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#copy")
    def action_copy(self) -> None:
        """Copy the command to the clipboard."""
        self.app.copy_to_clipboard(self._line)
        self.app.notify("copied", markup=False, timeout=2)
