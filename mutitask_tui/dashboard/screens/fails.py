"""The failed tasks, newest first or grouped by error, and all that is known of the selected one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from textual import on, work
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from mutitask_tui.dashboard.formats import when
from mutitask_tui.dashboard.keys.screen_bindings import FAILS_BINDINGS
from mutitask_tui.dashboard.model.fail_filter import FailFilter, haystack
from mutitask_tui.dashboard.model.selection import Fail, Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str, safe_text
from mutitask_tui.dashboard.screens.failed import FailedScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.facts import Facts
from mutitask_tui.dashboard.widgets.fail_list import FailList, GroupList
from mutitask_tui.server.snapshot import FailedTask, FailGroup, Snapshot
from worker_agent.protocol.pristine import time
from worker_agent.protocol.words import plural

PAGE = 100
DEEP = 10_000
"""A filter and a group look through so many of the newest."""
_TRACE_LIMIT = 20_000
_REST = 4
"""A read that took long is followed by a rest of so many times that long."""


class FailsScreen(FrameScreen):
    """A list that grows by a page when its end is reached; the fail keys act on the marked or selected tasks."""

    AUTO_FOCUS = "#fails"
    BINDINGS: ClassVar[list[BindingType]] = [*FAILS_BINDINGS]
    filters: ClassVar[bool] = True
    DEFAULT_CSS = """
    FailsScreen {
        #split { height: 1fr; layout: vertical; }
        #lists { height: 2fr; }
        #groups { display: none; }
        &.-grouped #groups { display: block; }
        &.-grouped #fails { display: none; }
        #detail { height: 3fr; scrollbar-size-vertical: 1; }
        #trace { height: auto; padding: 1 1 0 1; }
        &.-wide #split { layout: horizontal; }
        &.-wide #lists { width: 2fr; height: 1fr; }
        &.-wide #detail { width: 3fr; height: 1fr; }
    }
    """

    class Loaded(Message):
        """Failed tasks, or groups of them, came from Redis."""

        def __init__(
            self,
            tasks: tuple[FailedTask, ...] | None,
            haystacks: list[str],
            groups: tuple[FailGroup, ...] | None,
            *,
            whole: bool,
            took_s: float,
        ) -> None:
            super().__init__()
            self.tasks = tasks
            self.haystacks = haystacks
            self.groups = groups
            self.whole = whole
            self.took_s = took_s

    class NotLoaded(Message):
        """Nothing came, and why."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, channel: int | None = None) -> None:
        super().__init__()
        self.channel = channel
        """The one channel whose failed tasks are shown; None for all."""
        self.view = FailFilter()
        """What was read, and what of it is shown."""
        self._wanted = PAGE
        self._loading = False
        self._again = False
        self._total: int | None = None

    def body(self) -> Iterable[Widget]:
        """The list or the groups, and the detail."""
        fails, groups = FailList(id="fails"), GroupList(id="groups")
        for panel in (fails, groups):
            panel.add_class("panel", "body")
        detail = VerticalScroll(
            Facts(), Static("", id="trace", markup=False), id="detail", classes="panel body"
        )
        detail.border_title = "Detail"
        yield Container(Container(fails, groups, id="lists"), detail, id="split")

    def on_mount(self) -> None:
        """Read the first page, and again after each act."""
        super().on_mount()
        self.watch(self.app, "requests_done", self._act_ended)

    @property
    def grouped(self) -> bool:
        """Whether groups are shown in place of tasks."""
        return self.has_class("-grouped")

    @property
    def selected(self) -> FailedTask | None:
        """The failed task under the cursor."""
        return None if self.grouped else self.query_one(FailList).selected

    @property
    def selection(self) -> Selection:
        """The marked tasks, the one under the cursor, and what the list is narrowed down to."""
        task, fails = self.selected, self.query_one(FailList)
        narrowed = self._narrowed()
        shown = [(t.channel, t.id) for t in self.view.shown] if narrowed or fails.marked else []
        marked = [fail for fail in shown if fail in fails.marked]
        hidden = sorted(cast("set[Fail]", fails.marked) - set(marked))
        return Selection(
            device=task.device if task else None,
            channel=task.channel if task else None,
            fail=(task.channel, task.id) if task else None,
            only_channel=self.channel,
            fails=(*marked, *hidden) if not self.grouped else (),
            hidden=len(hidden) if not self.grouped else 0,
            shown_fails=tuple(shown) if narrowed and not self.grouped else None,
            filtered=narrowed,
        )

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
        self._read(self.channel, DEEP if self.view.active else self._wanted, self.grouped)

    def filter_value(self) -> str:
        """The present filter."""
        return self.view.filter_text

    def filter_by(self, wanted: str) -> None:
        """Narrow down to the tasks that match; all of the newest 10,000 are looked through."""
        if self.grouped:
            self._set_grouped(False)
        was_narrow = self.view.active
        self.view.set_filter(wanted, self.view.group)
        self._fill()
        if self.view.active and not was_narrow and not self.view.whole:
            self.load()

    def action_let_go(self) -> None:
        """Let go of the marks, else of the filter, else of the group, else of the screen."""
        fails = self.query_one(FailList)
        if fails.marked:
            fails.mark(set())
        elif self.view.filter_text.strip():
            self.drop_filter()
        elif self.view.group is not None:
            self.view.set_filter("", None)
            self._set_grouped(True)
            self.load()
        else:
            self.app.pop_screen()

    def action_groups(self) -> None:
        """Show groups, or each task."""
        self.view.set_filter(self.view.filter_text, None)
        self._set_grouped(not self.grouped)
        self.load()

    def action_read_again(self) -> None:
        """Read the list again."""
        self.load()

    def action_turn(self, step: int) -> None:
        """Narrow down to the next or the former channel, or to none; the marks are let go of."""
        self.query_one(FailList).mark(set())
        snapshot = self.host.snapshot
        ids: list[int | None] = [None, *(c.id for c in snapshot.channels)] if snapshot else [None]
        place = ids.index(self.channel) if self.channel in ids else 0
        self.channel = ids[(place + step) % len(ids)]
        self._wanted, self._total = PAGE, None
        if snapshot is not None:
            self.show(snapshot, self.host.trend)

    @work(thread=True, exit_on_error=False, group="fails")
    def _read(self, channel: int | None, wanted: int, grouped: bool) -> None:
        began = time.monotonic()
        try:
            if grouped:
                groups = self.host.backend.fail_groups(channel)
                took = time.monotonic() - began
                message = self.Loaded(None, [], tuple(groups), whole=False, took_s=took)
            else:
                tasks = tuple(self.host.backend.failed_tasks(channel, 0, wanted))
                stacks = [haystack(task) for task in tasks]
                took = time.monotonic() - began
                message = self.Loaded(tasks, stacks, None, whole=len(tasks) < wanted, took_s=took)
        except Exception as error:  # a list that cannot be read is said, and the view goes on
            self.post_message(self.NotLoaded(error))
        else:
            self.post_message(message)

    @on(Loaded)
    def _loaded(self, event: Loaded) -> None:
        if event.tasks is not None:
            self.view.set_tasks(event.tasks, event.haystacks, whole=event.whole)
            self._fill()
            if event.whole:
                fails = self.query_one(FailList)
                fails.mark(fails.marked & set(self.view.keys))
        if event.groups is not None:
            self.query_one(GroupList).show(event.groups)
            self._show_detail()
            self._title()
        if event.took_s > 0.05:
            self.set_timer(event.took_s * _REST, self._read_over)
        else:
            self._read_over()

    @on(NotLoaded)
    def _not_loaded(self, event: NotLoaded) -> None:
        self.host.show_status(f"the failed tasks could not be read: {event.error}", "bad")
        self._read_over()

    @on(CellGrid.Highlighted)
    def _highlighted(self, event: CellGrid.Highlighted) -> None:
        self._show_detail()
        self.selection_changed()
        tasks = self.view.shown
        last = (tasks[-1].channel, tasks[-1].id) if tasks else None
        if event.key == last is not None and not self.view.whole and not self.view.active:
            self._wanted = len(self.view.tasks) + PAGE
            self.load()

    @on(CellGrid.Marked)
    def _marked(self) -> None:
        self.selection_changed()
        self._title()

    @on(CellGrid.Opened, "#fails")
    def _opened(self) -> None:
        task = self.selected
        if task is not None:
            self.app.push_screen(FailedScreen((task.channel, task.id), task.device))

    @on(CellGrid.Opened, "#groups")
    def _group_opened(self) -> None:
        group = self.query_one(GroupList).selected
        if group is not None:
            self.view.set_filter("", group)
            self._set_grouped(False)
            self._fill()
            self.load()

    def _set_grouped(self, grouped: bool) -> None:
        self.set_class(grouped, "-grouped")
        self.query_one(GroupList if grouped else FailList).focus()
        self._title()
        self._show_detail()
        self.selection_changed()

    def _act_ended(self) -> None:
        """What was acted on loses its mark; then look again."""
        act = self.host.last_request
        if act is not None and act.batch is not None and act.command.scope == "fail":
            fails = self.query_one(FailList)
            fails.mark(fails.marked - set(act.batch.targets))
        self.load()

    def _read_over(self) -> None:
        self._loading = False
        if self._again:
            self._again = False
            self.load()

    def _fill(self) -> None:
        """Show what the view holds; the cursor stays on its task, or else on its place."""
        self.query_one(FailList).show(self.view.shown)
        self._title()
        self._show_detail()
        self.selection_changed()

    def _narrowed(self) -> str:
        """What narrows the list down, in words, or ''."""
        words = []
        if self.view.group is not None:
            group = self.view.group
            words.append(f"{safe_str(group.error_type or group.stage, 30)} at {safe_str(group.where, 60)}")
        if self.view.filter_text.strip():
            words.append(f"match /{safe_str(self.view.filter_text, 30)}")
        if not words:
            return ""
        deep = f", of the newest {len(self.view.tasks):,}" if self._more_than_read else ""
        return ", ".join(words) + deep

    @property
    def _more_than_read(self) -> bool:
        return self._total is not None and self._total > len(self.view.tasks)

    def _title(self) -> None:
        where = "all channels" if self.channel is None else f"TaskChannel{self.channel}"
        total = self._total or 0
        groups = self.query_one(GroupList)
        groups.border_title = f"Failed tasks of {where} in {plural(len(groups.items), 'group')}"
        groups.border_subtitle = "Enter shows a group's tasks"
        fails, narrowed = self.query_one(FailList), self._narrowed()
        if narrowed:
            shown = f"{len(self.view.shown):,} "
            title = Content.assemble(f"Failed tasks of {where}: ", (shown + narrowed, "$text-accent"))
        else:
            of = f" of {total:,}" if total > len(self.view.tasks) else ""
            title = Content(f"Failed tasks of {where}: {len(self.view.tasks):,}{of}, newest first")
        fails.border_title = title
        fails.border_subtitle = f"{len(fails.marked):,} marked" if fails.marked else ""

    def _show_detail(self) -> None:
        facts, trace = self.query_one("#detail Facts", Facts), self.query_one("#trace", Static)
        group = self.query_one(GroupList).selected if self.grouped else None
        task = group.example if group is not None else self.selected
        if task is None:
            nothing = "nothing matches" if self.view.active else "no task has failed"
            facts.show([("", nothing, "$text-success" if not self.view.active else "")])
            trace.update("")
            return
        now_ms = self.host.snapshot.now_ms if self.host.snapshot else task.failed_ms
        device = "none" if task.device is None else f"Device{task.device}"
        error = f"{task.error_type}: {task.error}" if task.error_type else task.error
        counted = [("group", f"{plural(group.count, 'task')}, for example", "bold")] if group else []
        facts.show(
            [
                *counted,
                ("error", error, "bold"),
                ("payload", task.task, ""),
                ("task", f"{task.id} (number {task.number}) of TaskChannel{task.channel}", ""),
                ("failed", f"{when(task.failed_ms, now_ms)} at stage {task.stage}, run {task.runs}", ""),
                ("device", device, ""),
            ]
        )
        trace.update(safe_text(task.traceback or "no traceback", _TRACE_LIMIT, lines=True))
