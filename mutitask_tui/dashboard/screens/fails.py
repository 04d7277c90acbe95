"""The screen of the failed tasks, newest first or grouped by error, with the details of the selected one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from textual import on
from textual.binding import BindingType
from textual.containers import Container
from textual.widget import Widget

from mutitask_tui.dashboard.keys.screen_bindings import FAILS_BINDINGS
from mutitask_tui.dashboard.model.fail_search import FailSearch, fail_of
from mutitask_tui.dashboard.model.selection import Fail, Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.fail_walks import PAGE_SIZE, FailWalks, GroupCount
from mutitask_tui.dashboard.screens.failed import FailedScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.fail_detail import FailDetail
from mutitask_tui.dashboard.widgets.fail_list import FailList, GroupList
from mutitask_tui.dashboard.widgets.fail_titles import filter_summary, groups_title, progress, tasks_title
from mutitask_tui.server.snapshot import FailedTask, FailGroup, Snapshot


class FailsScreen(FailWalks):
    """Show the failed tasks of one channel or of all.

    The list grows by a page when the cursor reaches its end. A filter, and the groups, go through all failed tasks
    and show what they have found so far. The keys for failed tasks act on the marked tasks, or on the one under the
    cursor.
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
        #detail { height: 3fr; }
        &.-wide #split { layout: horizontal; }
        &.-wide #lists { width: 2fr; height: 1fr; }
        &.-wide #detail { width: 3fr; height: 1fr; }
    }
    """

    def __init__(self, channel: int | None = None) -> None:
        super().__init__(channel)
        self.tasks: tuple[FailedTask, ...] = ()
        """The newest failed tasks, without a filter."""
        self.search: FailSearch | None = None
        """The search of the filter or of the group. None without them."""
        self._whole = False
        """Whether `tasks` are all failed tasks."""
        self._limit = PAGE_SIZE
        self._count: GroupCount | None = None
        """The walk that counts the groups."""
        self._groups_whole = False
        """Whether the shown groups were counted to the end."""
        self._total: int | None = None
        self._walked_total: int | None = None
        """How many tasks there were when the last walk or read began."""
        self._search_took_s = 0.0
        """How long the last search took."""

    def body(self) -> Iterable[Widget]:
        """Create the list of tasks, the list of groups and the details."""
        fails, groups = FailList(id="fails"), GroupList(id="groups")
        for panel in (fails, groups):
            panel.add_class("panel", "body")
        yield Container(Container(fails, groups, id="lists"), FailDetail(id="detail"), id="split")

    def on_mount(self) -> None:
        """Read the first page now, and read again after each command."""
        super().on_mount()
        self.watch(self.app, "requests_done", self._request_done)

    def on_unmount(self) -> None:
        """End the threads."""
        self._stop_walks()

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
        """The marked tasks, the task under the cursor, and all matches if the list is filtered."""
        if self.grouped:
            return Selection(only_channel=self.channel)
        task, fails = self.selected, self.query_one(FailList)
        shown = [key for key in cast("list[Fail]", fails.keys) if key in fails.marked] if fails.marked else []
        hidden = sorted(cast("set[Fail]", fails.marked) - set(shown))
        return Selection(
            device=task.device if task else None,
            channel=task.channel if task else None,
            fail=fail_of(task) if task else None,
            only_channel=self.channel,
            fails=(*shown, *hidden),
            hidden=len(hidden),
            shown_fails=None if self.search is None else self.search.all_keys,
            filtered=filter_summary(self.search, self._total or 0),
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
        """Read again what the screen shows. A search or a count of groups that is running continues instead."""
        if self.grouped:
            self._count_groups()
        elif self.search is None:
            self.read_newest(self._limit)
        elif not self.search.running:
            self.refresh_search(self.search)

    def current_filter(self) -> str:
        """Return the filter in effect."""
        return self.search.filter_text if self.search else ""

    def filter_by(self, filter_text: str) -> None:
        """Show only the tasks that match. The search goes through all failed tasks."""
        if self.grouped:
            self._set_grouped(False)
        self._search_for(filter_text, self.search.group if self.search else None, self.TYPING_S)

    def action_clear_or_back(self) -> None:
        """Stop the search, clear the marks, the filter or the group, or close the screen: the first that applies."""
        fails = self.query_one(FailList)
        if self._stop_walks():
            self._show_titles()
            self._show_detail()
            self.selection_changed()
        elif fails.marked:
            fails.mark(set())
        elif self.current_filter().strip():
            self.clear_filter()
        elif self.search is not None:
            self._search_for("", None)
            self._set_grouped(True)
            self.load()
        else:
            self.app.pop_screen()

    def action_groups(self) -> None:
        """Switch between groups and tasks."""
        if self.search is not None and self.search.group is not None:
            self._search_for(self.search.filter_text, None)
        self._set_grouped(not self.grouped)
        self.load()

    def action_reload_list(self) -> None:
        """Read the list again. A search starts again with the newest task."""
        if self.search is not None and not self.grouped:
            self._search_for(self.search.filter_text, self.search.group)
        else:
            self.load()

    def action_change_channel(self, step: int) -> None:
        """Show the next or the previous channel, or all channels, and clear the marks."""
        self.query_one(FailList).mark(set())
        snapshot = self.host.snapshot
        ids: list[int | None] = [None, *(c.id for c in snapshot.channels)] if snapshot else [None]
        index = ids.index(self.channel) if self.channel in ids else 0
        self.channel = ids[(index + step) % len(ids)]
        self._limit, self._total, self._groups_whole = PAGE_SIZE, None, False
        search = self.search
        self._stop_walks()
        self.tasks, self.search = (), None
        if search is not None:
            self._search_for(search.filter_text, search.group)
        if snapshot is not None:
            self.show(snapshot, self.host.trend)

    def _search_for(self, filter_text: str, group: FailGroup | None, wait_s: float = 0.0) -> None:
        """Start a search in place of the former one. Without a text and a group, show the newest tasks."""
        before = self.search
        known = {fail_of(task): task for task in (*self.tasks, *(before.shown if before else ()))}
        if before is not None:
            before.stop()
        if filter_text.strip() or group is not None:
            self.search = FailSearch(filter_text, group, known.values())
            self._walked_total = self._total
            self.walk_search(self.search, self.channel, wait_s)
        else:
            self.search = None
            self.read_newest(self._limit)
        self._show_tasks()

    def _count_groups(self) -> None:
        if self._count is not None and self._count.running:
            return
        self._count, self._walked_total = GroupCount(), self._total
        self.walk_groups(self._count, self.channel)

    def _stop_walks(self) -> bool:
        """Stop the search and the count of the groups. Return whether one of them was running."""
        running = False
        if self.search is not None and self.search.running:
            running = True
            self.search.stop()
            self.search.end(whole=False)
        if self._count is not None and self._count.running:
            running = True
            self._count.stop()
        return running

    @on(FailWalks.Loaded)
    def _loaded(self, event: FailWalks.Loaded) -> None:
        self.tasks, self._whole = event.tasks, event.whole
        if self.search is None:
            self._show_tasks()
            if event.whole:
                fails = self.query_one(FailList)
                fails.mark(fails.marked & set(map(fail_of, event.tasks)))
        self.read_done(event.took_s)

    @on(FailWalks.Renewed)
    def _renewed(self, event: FailWalks.Renewed) -> None:
        if self.search is event.former:
            self.search = event.search
            self._show_tasks()
            if self.search.unread(1) and (self._total or 0) < (self._walked_total or 0):
                self._search_again_later(event.search)
            else:
                self._walked_total = self._total
        self.read_done(event.took_s)

    def _search_again_later(self, search: FailSearch) -> None:
        """Search again, since tasks have left and matches that are not listed may be among them."""

        def search_again() -> None:
            if self.search is search:
                self._search_for(search.filter_text, search.group)

        self.after_pause(self._search_took_s, search_again)

    @on(FailWalks.Found)
    def _found(self, event: FailWalks.Found) -> None:
        if self.search is event.search and event.search.running:
            event.search.add(event.found, event.searched, event.newest_ms, event.oldest_ms)
            self._show_tasks()

    @on(FailWalks.Counted)
    def _counted(self, event: FailWalks.Counted) -> None:
        if event.count is self._count and self._count.running:
            self._count.take(event.number, event.counted)
            # Groups that were counted to the end stay until they are counted to the end again.
            if event.whole or not self._groups_whole:
                self.query_one(GroupList).show(event.groups)
                self._show_detail()
            self._show_titles()

    @on(FailWalks.WalkEnded)
    def _walk_ended(self, event: FailWalks.WalkEnded) -> None:
        if self.search is event.walk and self.search.running:
            self.search.end(whole=event.whole)
            self._search_took_s = event.took_s
            self._show_tasks()
            if event.whole and self._walked_total != self._total:
                self.load()
        elif self._count is event.walk:
            self._count.end(whole=event.whole)
            self._groups_whole = self._groups_whole or event.whole
            self._show_titles()
            self._show_detail()
            if event.whole and self.grouped and self._walked_total != self._total:
                self.after_pause(event.took_s, self._count_groups)

    def walk_failed(self) -> None:
        """Show that a walk ended with an error."""
        self._show_titles()
        self._show_detail()

    @on(CellGrid.Highlighted)
    def _highlighted(self, event: CellGrid.Highlighted) -> None:
        self._show_detail()
        self.selection_changed()
        shown = self.query_one(FailList).items
        if not shown or event.key != fail_of(shown[-1]):
            return
        if self.search is None and not self._whole:
            self._limit = len(self.tasks) + PAGE_SIZE
            self.load()
        elif self.search is not None and not self.search.running and self.search.unread(1):
            self.extend_search(self.search)

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
            self._stop_walks()
            self._set_grouped(False)
            self._search_for("", group)

    def _set_grouped(self, grouped: bool) -> None:
        self.set_class(grouped, "-grouped")
        self.query_one(GroupList if grouped else FailList).focus()
        self._show_titles()
        self._show_detail()
        self.selection_changed()

    def _request_done(self) -> None:
        """Remove the marks of the tasks that the command acted on, and read again."""
        request = self.host.last_request
        fails = self.query_one(FailList)
        if fails.marked and request is not None and request.batch and request.command.scope == "fail":
            fails.mark(fails.marked - set(request.batch.targets))
        self.load()

    def _show_tasks(self) -> None:
        """Show the tasks that match the filter.

        The cursor stays on its task, or at its position if the task is gone.
        """
        self.query_one(FailList).show(self.tasks if self.search is None else self.search.shown)
        self._show_titles()
        self._show_detail()
        self.selection_changed()

    def _show_titles(self) -> None:
        fails, groups, total = self.query_one(FailList), self.query_one(GroupList), self._total or 0
        fails.border_title = tasks_title(self.channel, self.search, len(fails.items), total)
        fails.border_subtitle = f"{len(fails.marked):,} marked" if fails.marked else ""
        count, walk = self._count, ""
        if count is not None and not count.whole:
            walk = progress("Counted", count.counted, total, running=count.running)
        number = max(len(groups.items), count.number if count else 0)
        groups.border_title = groups_title(self.channel, number, len(groups.items), walk)
        groups.border_subtitle = "Enter shows a group's tasks"

    def _show_detail(self) -> None:
        detail = self.query_one(FailDetail)
        group = self.query_one(GroupList).selected if self.grouped else None
        task = group.example if group is not None else self.selected
        if task is not None:
            now_ms = self.host.snapshot.now_ms if self.host.snapshot else task.failed_ms
            detail.show_task(task, group, now_ms)
        elif self.search is None:
            if self._whole:
                detail.show_text("no task has failed", "$text-success")
        elif self.search.running:
            detail.show_text("nothing matches so far")
        else:
            detail.show_text(
                "nothing matches" if self.search.whole else "nothing matched until it was stopped"
            )
