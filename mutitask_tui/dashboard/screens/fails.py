"""The screen of the failed tasks, newest first or grouped by error, with the details of the selected one."""

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
from worker_agent.protocol.text import plural
from worker_agent.protocol.unpatched import time

PAGE_SIZE = 100
"""How many more tasks are read when the cursor reaches the end of the list."""
SEARCH_DEPTH = 10_000
"""How many of the newest tasks a filter or a group searches."""
_TRACEBACK_LIMIT = 20_000
"""The most characters of a traceback."""
_PAUSE_FACTOR = 4
"""After a slow read the screen pauses for the duration of the read times this factor."""


class FailsScreen(FrameScreen):
    """Show the failed tasks of one channel or of all.

    The list grows by a page when the cursor reaches its end. The keys for failed tasks act on the marked tasks, or on
    the one under the cursor.
    """

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
        """Posted when failed tasks or groups of them were read.

        `whole` is whether `tasks` are all failed tasks. `took_s` is how long the read took, in seconds.
        """

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
        """Posted with the error when a read failed."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, channel: int | None = None) -> None:
        super().__init__()
        self.channel = channel
        """The channel whose failed tasks are shown; None for all channels."""
        self.view = FailFilter()
        """The tasks that were read, and the filter that selects the shown ones."""
        self._limit = PAGE_SIZE
        self._loading = False
        self._load_again = False
        self._total: int | None = None

    def body(self) -> Iterable[Widget]:
        """Create the list of tasks, the list of groups and the details."""
        fails, groups = FailList(id="fails"), GroupList(id="groups")
        for panel in (fails, groups):
            panel.add_class("panel", "body")
        detail = VerticalScroll(
            Facts(), Static("", id="trace", markup=False), id="detail", classes="panel body"
        )
        detail.border_title = "Detail"
        yield Container(Container(fails, groups, id="lists"), detail, id="split")

    def on_mount(self) -> None:
        """Read the first page now, and read again after each command."""
        super().on_mount()
        self.watch(self.app, "requests_done", self._request_done)

    @property
    def grouped(self) -> bool:
        """Whether the screen shows groups instead of tasks."""
        return self.has_class("-grouped")

    @property
    def selected(self) -> FailedTask | None:
        """The failed task under the cursor."""
        return None if self.grouped else self.query_one(FailList).selected

    @property
    def selection(self) -> Selection:
        """The marked tasks, the task under the cursor, and the shown tasks if the list is filtered."""
        task, fails = self.selected, self.query_one(FailList)
        summary = self._filter_summary()
        shown = [(t.channel, t.id) for t in self.view.shown] if summary or fails.marked else []
        marked = [fail for fail in shown if fail in fails.marked]
        hidden = sorted(cast("set[Fail]", fails.marked) - set(marked))
        return Selection(
            device=task.device if task else None,
            channel=task.channel if task else None,
            fail=(task.channel, task.id) if task else None,
            only_channel=self.channel,
            fails=(*marked, *hidden) if not self.grouped else (),
            hidden=len(hidden) if not self.grouped else 0,
            shown_fails=tuple(shown) if summary and not self.grouped else None,
            filtered=summary,
        )

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Read again if the number of failed tasks has changed."""
        shown = [c for c in snapshot.channels if self.channel in (None, c.id)]
        total = sum(c.failed for c in shown)
        if total != self._total:
            self._total = total
            self.load()
        self._show_titles()

    def load(self) -> None:
        """Read the tasks or the groups. If a read is running, read once more after it."""
        if self._loading:
            self._load_again = True
            return
        self._loading = True
        self._read(self.channel, SEARCH_DEPTH if self.view.active else self._limit, self.grouped)

    def current_filter(self) -> str:
        """Return the filter in effect."""
        return self.view.filter_text

    def filter_by(self, filter_text: str) -> None:
        """Show only the tasks that match. The filter searches the newest 10,000 tasks."""
        if self.grouped:
            self._set_grouped(False)
        was_active = self.view.active
        self.view.set_filter(filter_text, self.view.group)
        self._show_tasks()
        if self.view.active and not was_active and not self.view.whole:
            self.load()

    def action_clear_or_back(self) -> None:
        """Clear the marks, or the filter, or the group, or close the screen: the first of these that applies."""
        fails = self.query_one(FailList)
        if fails.marked:
            fails.mark(set())
        elif self.view.filter_text.strip():
            self.clear_filter()
        elif self.view.group is not None:
            self.view.set_filter("", None)
            self._set_grouped(True)
            self.load()
        else:
            self.app.pop_screen()

    def action_groups(self) -> None:
        """Switch between groups and tasks."""
        self.view.set_filter(self.view.filter_text, None)
        self._set_grouped(not self.grouped)
        self.load()

    def action_reload_list(self) -> None:
        """Read the list again."""
        self.load()

    def action_change_channel(self, step: int) -> None:
        """Show the next or the previous channel, or all channels, and clear the marks."""
        self.query_one(FailList).mark(set())
        snapshot = self.host.snapshot
        ids: list[int | None] = [None, *(c.id for c in snapshot.channels)] if snapshot else [None]
        index = ids.index(self.channel) if self.channel in ids else 0
        self.channel = ids[(index + step) % len(ids)]
        self._limit, self._total = PAGE_SIZE, None
        if snapshot is not None:
            self.show(snapshot, self.host.trend)

    @work(thread=True, exit_on_error=False, group="fails")
    def _read(self, channel: int | None, limit: int, grouped: bool) -> None:
        started = time.monotonic()
        try:
            if grouped:
                groups = self.host.backend.fail_groups(channel)
                took = time.monotonic() - started
                message = self.Loaded(None, [], tuple(groups), whole=False, took_s=took)
            else:
                tasks = tuple(self.host.backend.failed_tasks(channel, 0, limit))
                haystacks = [haystack(task) for task in tasks]
                took = time.monotonic() - started
                message = self.Loaded(tasks, haystacks, None, whole=len(tasks) < limit, took_s=took)
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error))
        else:
            self.post_message(message)

    @on(Loaded)
    def _loaded(self, event: Loaded) -> None:
        if event.tasks is not None:
            self.view.set_tasks(event.tasks, event.haystacks, whole=event.whole)
            self._show_tasks()
            if event.whole:
                fails = self.query_one(FailList)
                fails.mark(fails.marked & set(self.view.keys))
        if event.groups is not None:
            self.query_one(GroupList).show(event.groups)
            self._show_detail()
            self._show_titles()
        if event.took_s > 0.05:
            self.set_timer(event.took_s * _PAUSE_FACTOR, self._read_done)
        else:
            self._read_done()

    @on(NotLoaded)
    def _not_loaded(self, event: NotLoaded) -> None:
        self.host.show_status(f"cannot read the failed tasks: {event.error}", "bad")
        self._read_done()

    @on(CellGrid.Highlighted)
    def _highlighted(self, event: CellGrid.Highlighted) -> None:
        self._show_detail()
        self.selection_changed()
        tasks = self.view.shown
        last = (tasks[-1].channel, tasks[-1].id) if tasks else None
        if event.key == last is not None and not self.view.whole and not self.view.active:
            self._limit = len(self.view.tasks) + PAGE_SIZE
            self.load()

    @on(CellGrid.Marked)
    def _marked(self) -> None:
        self.selection_changed()
        self._show_titles()

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
            self._show_tasks()
            self.load()

    def _set_grouped(self, grouped: bool) -> None:
        self.set_class(grouped, "-grouped")
        self.query_one(GroupList if grouped else FailList).focus()
        self._show_titles()
        self._show_detail()
        self.selection_changed()

    def _request_done(self) -> None:
        """Remove the marks of the tasks that the command acted on, and read again."""
        request = self.host.last_request
        if request is not None and request.batch is not None and request.command.scope == "fail":
            fails = self.query_one(FailList)
            fails.mark(fails.marked - set(request.batch.targets))
        self.load()

    def _read_done(self) -> None:
        self._loading = False
        if self._load_again:
            self._load_again = False
            self.load()

    def _show_tasks(self) -> None:
        """Show the tasks that match the filter.

        The cursor stays on its task, or at its position if the task is gone.
        """
        self.query_one(FailList).show(self.view.shown)
        self._show_titles()
        self._show_detail()
        self.selection_changed()

    def _filter_summary(self) -> str:
        """Return the group and the filter in words, or '' if the list is not filtered."""
        words = []
        if self.view.group is not None:
            group = self.view.group
            words.append(f"{safe_str(group.error_type or group.stage, 30)} at {safe_str(group.location, 60)}")
        if self.view.filter_text.strip():
            words.append(f"match /{safe_str(self.view.filter_text, 30)}")
        if not words:
            return ""
        searched = f", of the newest {len(self.view.tasks):,}" if self._more_than_read else ""
        return ", ".join(words) + searched

    @property
    def _more_than_read(self) -> bool:
        return self._total is not None and self._total > len(self.view.tasks)

    def _show_titles(self) -> None:
        where = "all channels" if self.channel is None else f"TaskChannel{self.channel}"
        total = self._total or 0
        groups = self.query_one(GroupList)
        groups.border_title = f"Failed tasks of {where} in {plural(len(groups.items), 'group')}"
        groups.border_subtitle = "Enter shows a group's tasks"
        fails, summary = self.query_one(FailList), self._filter_summary()
        if summary:
            shown = f"{len(self.view.shown):,} "
            title = Content.assemble(f"Failed tasks of {where}: ", (shown + summary, "$text-accent"))
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
            text = "nothing matches" if self.view.active else "no task has failed"
            facts.show([("", text, "$text-success" if not self.view.active else "")])
            trace.update("")
            return
        now_ms = self.host.snapshot.now_ms if self.host.snapshot else task.failed_ms
        device = "none" if task.device is None else f"Device{task.device}"
        error = f"{task.error_type}: {task.error}" if task.error_type else task.error
        group_fact = [("group", f"{plural(group.count, 'task')}, for example", "bold")] if group else []
        facts.show(
            [
                *group_fact,
                ("error", error, "bold"),
                ("payload", task.task, ""),
                ("task", f"{task.id} (number {task.number}) of TaskChannel{task.channel}", ""),
                ("failed", f"{when(task.failed_ms, now_ms)} at stage {task.stage}, run {task.runs}", ""),
                ("device", device, ""),
            ]
        )
        trace.update(safe_text(task.traceback or "no traceback", _TRACEBACK_LIMIT, lines=True))
