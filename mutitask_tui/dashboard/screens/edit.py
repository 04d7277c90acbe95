"""The dialog to edit the payload of a failed task as JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static, TextArea

from mutitask_tui.dashboard.formats import size_text
from mutitask_tui.dashboard.model.selection import in_order
from mutitask_tui.dashboard.safe_text import safe_text
from mutitask_tui.dashboard.screens.dialog import Dialog
from mutitask_tui.server.commands.registry import Command, CommandError
from mutitask_tui.server.snapshot import FailedDetail
from worker_agent.protocol.printable import printable_json

_MAX_CHARS = 200_000
"""The longest text that can be edited. A longer one makes the editor slow."""


class EditScreen(Dialog[tuple[Any, ...]]):
    """Edit a payload. The result is the values of `edit_fail_task`, or None."""

    AUTO_FOCUS = "TextArea"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f2", "save", "Save", priority=True)]
    DEFAULT_CSS = """
    EditScreen {
        .dialog { width: 100; }
        TextArea { height: 8; margin-bottom: 1; background: $panel; }
    }
    """

    def __init__(self, command: Command, known: dict[str, Any], target: str, detail: FailedDetail) -> None:
        """Create the dialog.

        `known` are the values by parameter name, `target` names the task. The payload of `detail` can be edited if it
        can be represented as JSON.
        """
        super().__init__()
        self._command = command
        self._known = known
        self._target = target
        self._detail = detail

    def compose(self) -> ComposeResult:
        """Create the editor with the present payload, the line for errors and the buttons."""
        with Vertical(classes="dialog") as box:
            box.border_title = " edit_fail_task: edit the payload and reload the task "
            yield Static(safe_text(self._target, 500), classes="text", markup=False)
            yield Static(safe_text(self._description(), 400), classes="text faint", markup=False)
            yield TextArea(self._initial_text(), language=None, show_line_numbers=False, compact=True)
            yield Static("", classes="fault", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Save and reload (F2)", id="ok", variant="primary", compact=True)

    def on_mount(self) -> None:
        """Turn the blinking of the cursor off, because each blink costs traffic over SSH."""
        self.query_one(TextArea).cursor_blink = False

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#ok")
    def action_save(self) -> None:
        """Close the dialog with the new payload, or show what is wrong with it."""
        param = self._command.params[-1]
        try:
            value = param.parse(self.query_one(TextArea).text)
        except CommandError as error:
            self.query_one(".fault", Static).update(safe_text(error, 300))
            return
        self.dismiss(in_order(self._command, {**self._known, param.name: value}))

    def _description(self) -> str:
        size = size_text(self._detail.size)
        if self._detail.json is None:
            return f"JSON cannot represent this payload; type a new one. Present payload: {self._detail.task.task}"
        if len(self._detail.json) > _MAX_CHARS:
            return f"The present payload is too long to edit here ({size}); type a new one."
        return f"The whole payload, {size} as packed:"

    def _initial_text(self) -> str:
        text = self._detail.json or ""
        return printable_json(text) if len(text) <= _MAX_CHARS else ""
