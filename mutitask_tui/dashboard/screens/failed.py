"""All that is known of one failed task: its payload as a tree, and why each of its runs failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from mutitask_tui.dashboard.formats import size_text, when
from mutitask_tui.dashboard.keys.screen_bindings import FAILED_BINDINGS
from mutitask_tui.dashboard.model.selection import Fail, Selection
from mutitask_tui.dashboard.safe_text import safe_str, safe_text
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import FAINT
from mutitask_tui.dashboard.widgets.payload_tree import PayloadTree
from mutitask_tui.server.snapshot import FailedDetail, FailedRun

_TRACE_LIMIT = 20_000


class FailedScreen(PeekingScreen):
    """One failed task; the fail keys act on it."""

    AUTO_FOCUS = "#payload"
    BINDINGS: ClassVar[list[BindingType]] = [*FAILED_BINDINGS]
    DEFAULT_CSS = """
    FailedScreen {
        #task-facts { height: auto; max-height: 9; }
        #split { height: 1fr; layout: vertical; }
        #payload { height: auto; max-height: 45%; }
        #runs { height: 3fr; scrollbar-size-vertical: 1; }
        #runs Static { height: auto; padding: 0 1; }
        &.-wide #split, &.-normal #split { layout: horizontal; }
        &.-wide #payload, &.-normal #payload { width: 2fr; height: 1fr; max-height: 100%; }
        &.-wide #runs, &.-normal #runs { width: 3fr; height: 1fr; }
    }
    """

    def __init__(self, fail: Fail, device: int | None = None) -> None:
        """`fail` is the task's channel and id; `device` the one on which it failed."""
        super().__init__()
        self._fail = fail
        self._device = device
        self._detail: FailedDetail | None = None

    def body(self) -> Iterable[Widget]:
        """The facts, the payload and the runs."""
        facts = VerticalScroll(Facts(), id="task-facts", classes="panel body")
        facts.border_title = Content.assemble(
            "Failed task ", safe_str(self._fail[1], 60), f" of TaskChannel{self._fail[0]}"
        )
        tree = PayloadTree(id="payload")
        tree.add_class("panel", "body")
        tree.border_title = "Payload"
        runs = VerticalScroll(Static("", markup=False), id="runs", classes="panel body")
        runs.border_title = "Runs"
        yield facts
        yield Container(tree, runs, id="split")

    def on_mount(self) -> None:
        """Read the task, and again after each act."""
        super().on_mount()
        self.watch(self.app, "requests_done", self.peek_now)

    @property
    def selection(self) -> Selection:
        """This task alone, its channel and its device."""
        channel = self._fail[0]
        return Selection(
            self._device, channel, self._fail, channel, shown_fails=(self._fail,), filtered="this one alone"
        )

    def peek(self) -> FailedDetail | None:
        """The task in full."""
        return self.host.backend.failed_task(*self._fail)

    def show_peeked(self, found: FailedDetail | None) -> None:
        """Show it, or that it is not there any more."""
        facts = self.query_one(Facts)
        if found is None:
            gone = "no longer among the failed tasks: it was reloaded or deleted"
            facts.show([("task", gone, "$text-warning")])
            return
        now_ms = self.host.snapshot.now_ms if self.host.snapshot else found.task.failed_ms
        facts.show(_facts(found, now_ms), full_width=1, columns=2)
        runs = self.query_one("#runs")
        count = len(found.failed_runs)
        runs.border_title = f"{count} runs, the last first" if count > 1 else "The run"
        runs.query_one(Static).update(_runs(found, now_ms))
        tree = self.query_one(PayloadTree)
        if self._detail is None or self._detail.payload != found.payload:
            tree.show_payload(found.payload)
            kind = "" if found.unpacks else ", raw: it does not unpack"
            tree.border_title = f"Payload, {size_text(found.size)}{kind}"
        self._detail = found


def _facts(detail: FailedDetail, now_ms: int) -> list[Fact]:
    task = detail.task
    return [
        ("error", f"{task.error_type}: {task.error}" if task.error_type else task.error, "bold"),
        ("stage", task.stage, ""),
        ("failed", when(task.failed_ms, now_ms), ""),
        ("number", f"{task.number:,}", ""),
        ("device", "none" if task.device is None else f"Device{task.device}", ""),
        ("runs", f"{task.runs:,}" + (f", {detail.crashes:,} crashed" if detail.crashes else ""), ""),
    ]


def _runs(detail: FailedDetail, now_ms: int) -> Content:
    """Every run, the last first; one that failed as the run after it did says so in one line."""
    parts: list[Content] = []
    runs = detail.failed_runs
    after: FailedRun | None = None
    for place in range(len(runs) - 1, -1, -1):
        run = runs[place]
        device = "no device" if run.device is None else f"Device{run.device}"
        head = f"run {place + 1}  {when(run.at_ms, now_ms)}  {device}  stage {safe_str(run.stage, 30)}"
        parts.append(Content.styled(head, "bold $text-primary"))
        same = after is not None and (run.error_type, run.error, run.traceback) == (
            after.error_type,
            after.error,
            after.traceback,
        )
        if same:
            parts.append(Content.styled("the same error at the same place", FAINT))
        else:
            error = f"{run.error_type}: {run.error}" if run.error_type else run.error
            parts.append(safe_text(error, 2000, lines=True, style="$text-error"))
            if run.traceback:
                parts.append(safe_text(run.traceback, _TRACE_LIMIT, lines=True))
        parts.append(Content(""))
        after = run
    return Content("\n").join(parts) if parts else Content.styled("no run is recorded", FAINT)
