"""The details of a failed task, or of a group of them, beside the list."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from mutitask_tui.dashboard.formats import when
from mutitask_tui.dashboard.safe_text import safe_text
from mutitask_tui.dashboard.widgets.facts import Facts
from mutitask_tui.dashboard.widgets.header import FAINT
from mutitask_tui.server.snapshot import FailedTask, FailGroup
from worker_agent.protocol.text import plural

_TRACEBACK_LIMIT = 20_000
"""The most characters of a traceback."""
_LINE_LIMIT = 1_000
"""The most characters of a line that a run printed."""


class FailDetail(VerticalScroll):
    """Show the facts and the traceback of one failed task, or a sentence if there is none."""

    DEFAULT_CSS = """
    FailDetail { scrollbar-size-vertical: 1; }
    FailDetail #trace { height: auto; padding: 1 1 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel body")
        self.border_title = "Detail"
        self._shown: object = None

    def compose(self) -> Iterable[Widget]:
        """Create the facts and the traceback."""
        yield Facts()
        yield Static("", id="trace", markup=False)

    def show_text(self, text: str, style: str = "") -> None:
        """Show a sentence in place of a task."""
        if self._shown != (text, style):
            self._shown = text, style
            self.query_one(Facts).show([("", text, style)])
            self.query_one("#trace", Static).update("")

    def show_task(self, task: FailedTask, group: FailGroup | None, now_ms: int) -> None:
        """Show a task. `group` is set if the task is an example of that group."""
        if self._shown == (task, group):
            return
        self._shown = task, group
        device = "none" if task.device is None else f"Device{task.device}"
        error = f"{task.error_type}: {task.error}" if task.error_type else task.error
        group_fact = [("group", f"{plural(group.count, 'task')}, for example", "bold")] if group else []
        self.query_one(Facts).show(
            [
                *group_fact,
                ("error", error, "bold"),
                ("payload", task.task, ""),
                ("task", f"{task.id} (number {task.number}) of TaskChannel{task.channel}", ""),
                ("failed", f"{when(task.failed_ms, now_ms)} at stage {task.stage}, run {task.runs}", ""),
                ("device", device, ""),
            ]
        )
        parts = [safe_text(task.traceback or "no traceback", _TRACEBACK_LIMIT, lines=True)]
        if task.lines:
            parts.append(Content.styled("\nthe last lines that it printed or logged", FAINT))
            parts += [safe_text(line, _LINE_LIMIT) for line in task.lines]
        self.query_one("#trace", Static).update(Content("\n").join(parts))
