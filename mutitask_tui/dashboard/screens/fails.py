"""The failed tasks, newest first, and all that is known of the selected one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from mutitask_tui.dashboard.bindings import screen_bindings
from mutitask_tui.dashboard.formats import clock
from mutitask_tui.dashboard.safe_text import safe_str, safe_text
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.selection import Selection
from mutitask_tui.dashboard.trend import Trend
from mutitask_tui.dashboard.widgets.facts import Facts
from mutitask_tui.dashboard.widgets.header import FAINT
from mutitask_tui.server.snapshot import FailedTask, Snapshot

PAGE = 100
_TRACE_LIMIT = 20_000


class FailsScreen(FrameScreen):
    """A list that grows by a page when its end is reached; the fail keys act on the selected task."""

    AUTO_FOCUS = "#fails"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        *screen_bindings("Reload", "Edit", "Delete", "Export"),
        Binding("left_square_bracket", "turn(-1)", "Channel before", show=False),
        Binding("right_square_bracket", "turn(1)", "Next channel"),
        Binding("f5", "read_again", "Read again", show=False),
    ]
    DEFAULT_CSS = """
    FailsScreen {
        #split { height: 1fr; layout: vertical; }
        #fails {
            height: 2fr;
            padding: 0;
            scrollbar-size-vertical: 1;
            background: $background;
            text-wrap: nowrap;
            text-overflow: ellipsis;
            &:focus { background-tint: $foreground 0%; }
            & > .option-list--option-highlighted {
                background: $foreground 10%;
                color: $foreground;
                text-style: none;
            }
            &:focus > .option-list--option-highlighted { background: $primary 28%; }
        }
        &.-short #fails { border: none; border-top: solid $border; }
        #detail { height: 3fr; scrollbar-size-vertical: 1; }
        #trace { height: auto; padding: 1 1 0 1; }
        &.-wide #split { layout: horizontal; }
        &.-wide #fails { width: 2fr; height: 1fr; }
        &.-wide #detail { width: 3fr; height: 1fr; }
    }
    """

    class Loaded(Message):
        """A page of failed tasks came from Redis."""

        def __init__(self, tasks: tuple[FailedTask, ...], *, whole: bool) -> None:
            super().__init__()
            self.tasks = tasks
            self.whole = whole

    class NotLoaded(Message):
        """No page came, and why."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, channel: int | None = None) -> None:
        super().__init__()
        self.channel = channel
        """The one channel whose failed tasks are shown; None for all."""
        self.tasks: tuple[FailedTask, ...] = ()
        self._wanted = PAGE
        self._whole = False
        self._loading = False
        self._again = False
        self._total: int | None = None

    def body(self) -> Iterable[Widget]:
        """The list and the detail."""
        fails = OptionList(id="fails", markup=False, classes="panel body")
        detail = VerticalScroll(
            Facts(), Static("", id="trace", markup=False), id="detail", classes="panel body"
        )
        detail.border_title = "Detail"
        yield Container(fails, detail, id="split")

    def on_mount(self) -> None:
        """Read the first page, and again after each act."""
        super().on_mount()
        self.watch(self.app, "acts_done", self.load)

    @property
    def selected(self) -> FailedTask | None:
        """The failed task under the cursor."""
        place = self.query_one("#fails", OptionList).highlighted
        return self.tasks[place] if place is not None and place < len(self.tasks) else None

    @property
    def selection(self) -> Selection:
        """The failed task, its channel and its device."""
        task = self.selected
        if task is None:
            return Selection(only_channel=self.channel)
        return Selection(task.device, task.channel, (task.channel, task.id), self.channel, task.task)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Read again where the number of failed tasks is another."""
        shown = [c for c in snapshot.channels if self.channel in (None, c.id)]
        total = sum(c.failed for c in shown)
        if total != self._total:
            self._total = total
            self.load()
        self._title()

    def load(self) -> None:
        """Read as many tasks as a person has paged through; once more if asked meanwhile."""
        if self._loading:
            self._again = True
            return
        self._loading = True
        self._read(self.channel, self._wanted)

    def action_read_again(self) -> None:
        """Read the list again."""
        self.load()

    def action_turn(self, step: int) -> None:
        """Narrow down to the next or the former channel, or to none."""
        snapshot = self.host.snapshot
        ids: list[int | None] = [None, *(c.id for c in snapshot.channels)] if snapshot else [None]
        place = ids.index(self.channel) if self.channel in ids else 0
        self.channel = ids[(place + step) % len(ids)]
        self._wanted, self._total = PAGE, None
        if snapshot is not None:
            self.show(snapshot, self.host.trend)

    @work(thread=True, exit_on_error=False, group="fails")
    def _read(self, channel: int | None, wanted: int) -> None:
        try:
            tasks = self.host.link.failed_tasks(channel, 0, wanted)
        except Exception as error:  # a list that cannot be read is said, and the view goes on
            self.post_message(self.NotLoaded(error))
        else:
            self.post_message(self.Loaded(tuple(tasks), whole=len(tasks) < wanted))

    @on(Loaded)
    def _loaded(self, event: Loaded) -> None:
        self._whole = event.whole
        self._fill(event.tasks)
        self._read_over()

    @on(NotLoaded)
    def _not_loaded(self, event: NotLoaded) -> None:
        self.host.say(f"the failed tasks could not be read: {event.error}", "bad")
        self._read_over()

    @on(OptionList.OptionHighlighted, "#fails")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._show_detail()
        self.selection_changed()
        if event.option_index == len(self.tasks) - 1 and not self._whole:
            self._wanted = len(self.tasks) + PAGE
            self.load()

    def _read_over(self) -> None:
        self._loading = False
        if self._again:
            self._again = False
            self.load()

    def _fill(self, tasks: tuple[FailedTask, ...]) -> None:
        """Show these tasks; the cursor stays on its task, or else on its place."""
        if tasks and tasks == self.tasks:
            self._title()
            return
        fails = self.query_one("#fails", OptionList)
        was, place, top = self.selected, fails.highlighted or 0, fails.scroll_offset.y
        self.tasks = tasks
        fails.set_options(Option(_line(task)) for task in tasks)
        if tasks:
            key = (was.channel, was.id) if was else None
            places = {(task.channel, task.id): i for i, task in enumerate(tasks)}
            fails.scroll_to(y=top, animate=False)
            fails.highlighted = places.get(key, min(place, len(tasks) - 1)) if key else 0
        self._title()
        self._show_detail()
        self.selection_changed()

    def _title(self) -> None:
        where = "all channels" if self.channel is None else f"TaskChannel{self.channel}"
        of = f" of {max(self._total, len(self.tasks)):,}" if self._total is not None else ""
        fails = self.query_one("#fails", OptionList)
        fails.border_title = f"Failed tasks of {where}: {len(self.tasks):,}{of}, newest first"

    def _show_detail(self) -> None:
        task = self.selected
        facts, trace = self.query_one("#detail Facts", Facts), self.query_one("#trace", Static)
        if task is None:
            facts.show([("", "no task has failed", "$text-success")])
            trace.update("")
            return
        device = "none" if task.device is None else f"Device{task.device}"
        facts.show(
            [
                ("error", f"{task.error_type}: {task.error}" if task.error_type else task.error, "bold"),
                ("payload", task.task, ""),
                ("task", f"{task.id} (number {task.number}) of TaskChannel{task.channel}", ""),
                ("failed", f"{clock(task.failed_ms)} UTC at stage {task.stage}, run {task.runs}", ""),
                ("device", device, ""),
            ]
        )
        trace.update(safe_text(task.traceback or "no traceback", _TRACE_LIMIT, lines=True))


def _line(task: FailedTask) -> Content:
    device = "" if task.device is None else f"Device{task.device}"
    return Content.assemble(
        (f" {clock(task.failed_ms)} ", FAINT),
        (f"{f'#{task.number}':<8}", ""),
        (f"{device:<10}", "$text-primary"),
        (f"{safe_str(task.error_type or task.stage, 30)} ", "$text-error"),
        (safe_str(task.error, 120), ""),
        (f"  {safe_str(task.task, 120)}", FAINT),
    )
