"""The screen of one failed task: its payload and its failed runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from mutitask_tui.dashboard.formats import size_text, span, when
from mutitask_tui.dashboard.keys.screen_bindings import FAILED_BINDINGS
from mutitask_tui.dashboard.model.selection import Fail, Selection
from mutitask_tui.dashboard.safe_text import safe_str, safe_text
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import FAINT
from mutitask_tui.dashboard.widgets.payload_tree import PayloadTree
from mutitask_tui.server.snapshot import FailedDetail, FailedRun

_TRACEBACK_LIMIT = 20_000
"""The most characters of a traceback."""

_LINE_LIMIT = 1_000
"""The most characters of a line that a run printed."""


class FailedScreen(PeekingScreen):
    """Show a failed task with its payload and its failed runs. The keys for failed tasks act on it."""

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
        """Create the screen. `fail` is the channel and the id of the task, `device` is where it failed."""
        super().__init__()
        self._fail = fail
        self._device = device
        self._detail: FailedDetail | None = None

    def body(self) -> Iterable[Widget]:
        """Create the facts, the payload and the runs."""
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
        """Read the task now and after each command."""
        super().on_mount()
        self.watch(self.app, "requests_done", self.peek_now)

    @property
    def selection(self) -> Selection:
        """This task, its channel and its device."""
        channel = self._fail[0]
        return Selection(
            self._device, channel, self._fail, channel, shown_fails=(self._fail,), filtered="this one alone"
        )

    def peek(self) -> FailedDetail | None:
        """Read the whole task."""
        return self.host.backend.failed_task(*self._fail)

    def show_peeked(self, result: FailedDetail | None) -> None:
        """Show the task, or that it is no longer failed."""
        facts = self.query_one(Facts)
        if result is None:
            gone = "no longer failed: it was reloaded or deleted"
            facts.show([("task", gone, "$text-warning")])
            return
        now_ms = self.host.snapshot.now_ms if self.host.snapshot else result.task.failed_ms
        facts.show(_facts(result, now_ms), full_width=1, columns=2)
        runs = self.query_one("#runs")
        count = len(result.failed_runs)
        runs.border_title = f"{count} runs, newest first" if count > 1 else "Run"
        runs.query_one(Static).update(_runs(result, now_ms))
        tree = self.query_one(PayloadTree)
        if self._detail is None or self._detail.payload != result.payload:
            tree.show_payload(result.payload)
            kind = "" if result.unpacks else ", raw bytes: not valid msgpack"
            tree.border_title = f"Payload, {size_text(result.size)}{kind}"
        self._detail = result


def _facts(detail: FailedDetail, now_ms: int) -> list[Fact]:
    task = detail.task
    given_up = detail.failed_runs[-1].given_up if detail.failed_runs else ""
    return [
        ("error", f"{task.error_type}: {task.error}" if task.error_type else task.error, "bold"),
        ("stage", task.stage, ""),
        ("failed", when(task.failed_ms, now_ms), ""),
        ("number", f"{task.number:,}", ""),
        ("device", "none" if task.device is None else f"Device{task.device}", ""),
        ("runs", f"{task.runs:,}" + (f", {detail.crashes:,} crashed" if detail.crashes else ""), ""),
        *([("given up", given_up, "")] if given_up else []),
    ]


def _runs(detail: FailedDetail, now_ms: int) -> Content:
    """Return all runs, the newest first. A run with the same error as the next one takes one line."""
    parts: list[Content] = []
    runs = detail.failed_runs
    later: FailedRun | None = None
    for index in range(len(runs) - 1, -1, -1):
        run = runs[index]
        device = "no device" if run.device is None else f"Device{run.device}"
        head = f"run {index + 1}  {when(run.at_ms, now_ms)}  {device}  stage {safe_str(run.stage, 30)}"
        if run.delay_ms:
            head += f"  next run after {span(run.delay_ms / 1000)}"
        parts.append(Content.styled(head, "bold $text-primary"))
        same = later is not None and (run.error_type, run.error, run.traceback) == (
            later.error_type,
            later.error,
            later.traceback,
        )
        if same:
            parts.append(Content.styled("the same error at the same place", FAINT))
        else:
            error = f"{run.error_type}: {run.error}" if run.error_type else run.error
            parts.append(safe_text(error, 2000, lines=True, style="$text-error"))
            if run.traceback:
                parts.append(safe_text(run.traceback, _TRACEBACK_LIMIT, lines=True))
        if run.lines:
            parts.append(Content.styled(f"the last {len(run.lines)} lines that it printed or logged", FAINT))
            parts += [safe_text(line, _LINE_LIMIT) for line in run.lines]
        parts.append(Content(""))
        later = run
    return Content("\n").join(parts) if parts else Content.styled("no failed run is recorded", FAINT)
