"""The dialog that asks how to leave: cancel, detach the view, or close the server."""

from __future__ import annotations

from typing import Literal

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from mutitask_tui.dashboard.safe_text import safe_text
from mutitask_tui.dashboard.screens.dialog import Dialog

Leaving = Literal["detach", "exit"]


class LeaveScreen(Dialog[Leaving]):
    """Ask how to leave. The result is `detach`, `exit` or None."""

    AUTO_FOCUS = "#cancel"

    def __init__(self, target: str, *, owns_server: bool, may_exit: bool) -> None:
        """Create the dialog.

        `target` says what an exit stops. `owns_server` is whether the server runs in this terminal. `may_exit` is
        whether the user may close the server.
        """
        super().__init__()
        self._target = target
        self._owns_server = owns_server
        self._may_exit = may_exit

    def compose(self) -> ComposeResult:
        """Create the texts and the buttons."""
        stays = (
            "the server keeps running in this terminal" if self._owns_server else "the server keeps running"
        )
        with Vertical(classes="dialog -danger") as box:
            box.border_title = " Leave? "
            yield Static(safe_text(f"Detach  closes the dashboard; {stays}."), classes="text", markup=False)
            if self._may_exit:
                text = f"Exit    stops {self._target} and closes the server; waiting tasks stay in Redis."
                yield Static(safe_text(text, 400), classes="text", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Detach", id="detach", variant="primary", compact=True)
                if self._may_exit:
                    yield Button("Exit", id="exit", variant="error", compact=True)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#detach")
    def _choose_detach(self) -> None:
        self.dismiss("detach")

    @on(Button.Pressed, "#exit")
    def _choose_exit(self) -> None:
        self.dismiss("exit")
