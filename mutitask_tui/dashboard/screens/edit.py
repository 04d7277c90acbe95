"""Takes another payload for a failed task, as JSON."""

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

_LONGEST = 200_000
"""A longer text makes the editor slow."""


class EditScreen(Dialog[tuple[Any, ...]]):
    """Dismisses with the values of `edit_fail_task`, or None."""

    AUTO_FOCUS = "TextArea"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f2", "save", "Save", priority=True)]
    DEFAULT_CSS = """
    EditScreen {
        .dialog { width: 100; }
        TextArea { height: 8; margin-bottom: 1; background: $panel; }
    }
    """

    def __init__(self, command: Command, known: dict[str, Any], target: str, detail: FailedDetail) -> None:
        """The whole payload of `detail` is offered for editing, if JSON can say it."""
        super().__init__()
        self._command = command
        self._known = known
        self._target = target
        self._detail = detail

    def compose(self) -> ComposeResult:
        """The present payload, the new one, and what is wrong with it."""
        with Vertical(classes="dialog") as box:
            box.border_title = " edit_fail_task: another payload, then reload "
            yield Static(safe_text(self._target, 500), classes="text", markup=False)
            yield Static(safe_text(self._now(), 400), classes="text faint", markup=False)
            yield TextArea(self._start(), language=None, show_line_numbers=False, compact=True)
            yield Static("", classes="fault", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Save and reload (F2)", id="ok", variant="primary", compact=True)

    def on_mount(self) -> None:
        """No blinking: a still cursor costs nothing over SSH."""
        self.query_one(TextArea).cursor_blink = False

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#ok")
    def action_save(self) -> None:
        """Take the new payload, or say what is wrong with it."""
        param = self._command.params[-1]
        try:
            value = param.parse(self.query_one(TextArea).text)
        except CommandError as error:
            self.query_one(".fault", Static).update(safe_text(error, 300))
            return
        self.dismiss(in_order(self._command, {**self._known, param.name: value}))

    def _now(self) -> str:
        size = size_text(self._detail.size)
        if self._detail.json is None:
            return f"JSON cannot say the present payload; type another. Now: {self._detail.task.task}"
        if len(self._detail.json) > _LONGEST:
            return f"The present payload is too long to be edited here ({size}); type another."
        return f"The whole payload, {size} as packed:"

    def _start(self) -> str:
        whole = self._detail.json or ""
        return printable_json(whole) if len(whole) <= _LONGEST else ""
