"""The screen of one running task: its payload, its progress and its lines as they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.widget import Widget

from mutitask_tui.dashboard.formats import about, amount, size_text, span
from mutitask_tui.dashboard.keys.screen_bindings import TASK_BINDINGS
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.payload_tree import PayloadTree
from mutitask_tui.dashboard.widgets.said_lines import SaidLines
from mutitask_tui.server.snapshot import RunningDetail, RunningTask, Snapshot
from worker_agent.protocol.task_line import TaskLine

Peeked = tuple[RunningDetail | None, tuple[TaskLine, ...]]


class TaskScreen(PeekingScreen):
    """Show a running task. Its lines stay when it has ended, while Redis keeps them."""

    AUTO_FOCUS = "#lines"
    BINDINGS: ClassVar[list[BindingType]] = [*TASK_BINDINGS]
    DEFAULT_CSS = """
    TaskScreen {
        #task-facts { height: auto; max-height: 10; }
        #split { height: 1fr; layout: vertical; }
        #payload { height: auto; max-height: 40%; }
        #lines { height: 1fr; }
        &.-wide #split { layout: horizontal; }
        &.-wide #payload { width: 2fr; height: 1fr; max-height: 100%; }
        &.-wide #lines { width: 3fr; }
    }
    """

    def __init__(self, device: int, task: RunningTask) -> None:
        super().__init__()
        self._device = device
        self.run_shown = task
        """The task, as the newest snapshot shows it. As it was last, once it has ended."""
        self._actor = ""
        self._still_runs = True
        self._detail: RunningDetail | None = None
        self._payload_shown = False

    def body(self) -> Iterable[Widget]:
        """Create the facts, the payload and the lines."""
        facts = VerticalScroll(Facts(), id="task-facts", classes="panel body", can_focus=False)
        facts.border_title = (
            f"Task #{self.run_shown.number} of TaskChannel{self.run_shown.channel} on Device{self._device}"
        )
        tree = PayloadTree(id="payload")
        tree.border_title = "Payload"
        lines = SaidLines(numbers=False, id="lines")
        lines.border_title = "Lines"
        for panel in (tree, lines):
            panel.add_class("panel", "body")
        yield facts
        yield Container(tree, lines, id="split")

    @property
    def selection(self) -> Selection:
        """Its device, its channel, and the task while it runs."""
        shown = self.run_shown
        return Selection(
            self._device, shown.channel, task=(shown.channel, shown.id) if self._still_runs else None
        )

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show the task in the snapshot."""
        device = next((d for d in snapshot.devices if d.id == self._device), None)
        tasks = device.tasks if device is not None else ()
        found = next(
            (t for t in tasks if (t.channel, t.id) == (self.run_shown.channel, self.run_shown.id)), None
        )
        if device is not None and found is not None:
            self.run_shown, self._actor = found, device.actor
        self._still_runs = found is not None
        self.query_one(Facts).show(_facts(self.run_shown, running=self._still_runs), full_width=1, columns=2)
        self.peek_soon()

    def peek(self) -> Peeked:
        """Read the lines of the task, and its payload unless it is known."""
        backend, task = self.host.backend, self.run_shown
        detail = self._detail
        if detail is None and self._actor and self._still_runs:
            detail = backend.running_task(self._actor, task.channel, task.id)
        lines = backend.task_lines(self._device)
        return detail, tuple(line for line in lines if (line.channel, line.id) == (task.channel, task.id))

    def show_peeked(self, result: Any) -> None:
        """Show the payload and the lines."""
        detail, found = result
        tree, lines = self.query_one(PayloadTree), self.query_one(SaidLines)
        if detail is not None and detail != self._detail:
            tree.show_payload(detail.payload)
            tree.border_title = f"Payload, {size_text(detail.size)}"
        elif detail is None and not self._payload_shown:
            tree.show_payload(self.run_shown.text)
            tree.border_title = "Payload, in short"
        self._payload_shown = True
        self._detail = detail
        if tuple(lines.shown) != found:
            lines.show_lines(found)
        lines.border_title = "Lines (UTC)" if found else "Lines: none yet"


def _facts(task: RunningTask, *, running: bool) -> list[Fact]:
    progress = "not told"
    if task.done is not None:
        progress = amount(task.done) + (f" of {amount(task.total)}" if task.total is not None else " done")
        progress += "" if task.share is None else f", {task.share:.0%}"
    left = "unknown" if task.left_s is None else about(task.left_s)
    return [
        ("note", task.note or "none", ""),
        (
            "state",
            f"for {span(task.seconds)}" if running else "has ended",
            "" if running else "$text-warning",
        ),
        ("progress", progress, ""),
        ("left", left if running else "nothing", ""),
        ("id", task.id, ""),
    ]
