"""The dialog that asks for the arguments of a command that the selection does not give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from mutitask_tui.dashboard.model.selection import in_order
from mutitask_tui.dashboard.safe_text import safe_text
from mutitask_tui.dashboard.screens.dialog import Dialog
from mutitask_tui.server.commands.registry import Command, CommandError, Param


class PromptScreen(Dialog[tuple[Any, ...]]):
    """Ask for arguments. The result is all values of the command in order, or None."""

    AUTO_FOCUS = "Input"

    def __init__(
        self, command: Command, known: dict[str, Any], missing: Sequence[Param], target: str, start: str = ""
    ) -> None:
        """Create the dialog.

        `known` are the values by parameter name, `missing` the parameters to ask for. `target` says what the command
        acts on, and `start` is the initial text.
        """
        super().__init__()
        self._command = command
        self._known = known
        self._missing = tuple(missing)
        self._target = target
        self._start = start

    def compose(self) -> ComposeResult:
        """Create the description, the input, the line for errors and the buttons."""
        usage = " ".join(f"[{p.name}]" if p.optional else p.name for p in self._missing)
        with Vertical(classes="dialog") as box:
            box.border_title = Content(f" {self._command.usage} ")
            if self._target:
                yield Static(safe_text(self._target, 500), classes="text", markup=False)
            yield Static(safe_text(self._command.summary), classes="text faint", markup=False)
            yield Input(self._start, placeholder=usage, compact=True)
            yield Static("", classes="fault", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("OK", id="ok", variant="primary", compact=True)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#ok")
    @on(Input.Submitted)
    def _accept(self) -> None:
        try:
            values = replace(self._command, params=self._missing).parse(self.query_one(Input).value.split())
        except CommandError as error:
            self.query_one(".fault", Static).update(safe_text(error, 300))
            self.query_one(Input).focus()
            return
        named = {param.name: value for param, value in zip(self._missing, values, strict=False)}
        self.dismiss(in_order(self._command, {**self._known, **named}))
