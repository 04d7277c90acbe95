"""The base of all dialogs."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

R = TypeVar("R")


class Dialog(ModalScreen[R]):
    """A box in the middle of the screen. Escape closes it without a result."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        background: $background 60%;
        .dialog {
            width: 70;
            max-width: 94%;
            height: auto;
            max-height: 90%;
            padding: 1 2;
            background: $surface;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
        }
        .dialog.-danger { border: round $error; border-title-color: $text-error; }
        .text { height: auto; margin-bottom: 1; }
        .faint { color: $text-muted; }
        .fault { color: $text-error; height: auto; }
        .buttons { height: auto; align-horizontal: right; }
        .buttons Button { margin-left: 2; min-width: 12; padding: 0 2; }
        .buttons Button:focus {
            background: $foreground;
            color: $background;
            text-style: bold;
            background-tint: $foreground 0%;
        }
        Input { background: $panel; }
    }
    """

    def action_cancel(self) -> None:
        """Close the dialog without a result."""
        self.dismiss(None)
