"""The threads of the screen of failed tasks: they read the newest tasks, search all of them, or group all of them."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from textual import on, work
from textual.message import Message
from textual.worker import get_current_worker

from mutitask_tui.dashboard.model.fail_search import FailSearch
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.server.fail_groups import FailGroups
from mutitask_tui.server.snapshot import FailedTask
from worker_agent.protocol.unpatched import time

PAGE_SIZE = 100
"""How many more tasks are listed when the cursor reaches the end of the list."""
_PAUSE_FACTOR = 4
"""After a slow read the screen pauses for the duration of the read times this factor."""
MOST_GROUPS = 1_000
"""How many groups are listed: the largest."""
_TELL_S = 0.15
"""How often a walk tells how far it is, in seconds."""


class GroupCount:
    """A walk that groups all failed tasks. The thread calls only `stopped`."""

    def __init__(self) -> None:
        self.counted = 0
        """How many tasks were counted."""
        self.number = 0
        """How many groups they make."""
        self.running = True
        self.whole = False
        """Whether the walk has ended with the oldest task."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make the thread end soon."""
        self._stopped.set()
        self.running = False

    def stopped(self) -> bool:
        """Return whether the walk was stopped."""
        return self._stopped.is_set()

    def take(self, number: int, counted: int) -> None:
        """Take what the thread has counted so far."""
        self.number, self.counted = number, counted

    def end(self, *, whole: bool) -> None:
        """Note that the thread has ended, at the oldest task if `whole`."""
        self.running, self.whole = False, whole


class FailWalks(FrameScreen):
    """Reads failed tasks in threads and posts what was read.

    At most one short read runs at a time, and beside it one walk through all tasks.
    """

    TYPING_S: ClassVar[float] = 0.15
    """How long a search waits for the next letter of its text before it reads anything."""

    class Loaded(Message):
        """Posted when the newest tasks were read. `whole` is whether they are all. `took_s` is in seconds."""

        def __init__(self, tasks: tuple[FailedTask, ...], *, whole: bool, took_s: float) -> None:
            super().__init__()
            self.tasks = tasks
            self.whole = whole
            self.took_s = took_s

    class Renewed(Message):
        """Posted when a search that had ended was brought up to date. `search` takes the place of `former`."""

        def __init__(self, former: FailSearch, search: FailSearch, took_s: float) -> None:
            super().__init__()
            self.former = former
            self.search = search
            self.took_s = took_s

    class NotLoaded(Message):
        """Posted with the error when a read failed."""

        def __init__(self, error: Exception, walk: FailSearch | GroupCount | None = None) -> None:
            super().__init__()
            self.error = error
            self.walk = walk

    class Found(Message):
        """Posted while a search runs, with the matches since the last message, and at its end."""

        def __init__(
            self, search: FailSearch, found: list[FailedTask], searched: int, newest_ms: int, oldest_ms: int
        ) -> None:
            super().__init__()
            self.search = search
            self.found = found
            self.searched = searched
            self.newest_ms = newest_ms
            self.oldest_ms = oldest_ms

    class Counted(Message):
        """Posted while the groups are counted, and at the end."""

        def __init__(self, count: GroupCount, found: FailGroups, *, whole: bool = False) -> None:
            super().__init__()
            self.count = count
            self.whole = whole
            self.groups = found.groups(MOST_GROUPS)
            self.number = len(found)
            self.counted = found.counted

    class WalkEnded(Message):
        """Posted at the end of a walk, with whether it went through all tasks and how long it took in seconds."""

        def __init__(self, walk: FailSearch | GroupCount, *, whole: bool, took_s: float) -> None:
            super().__init__()
            self.walk = walk
            self.whole = whole
            self.took_s = took_s

    def __init__(self, channel: int | None = None) -> None:
        super().__init__()
        self.channel = channel
        """The channel whose failed tasks are shown; None for all channels."""
        self._reading = False
        self._read_again: Callable[[], object] | None = None

    @abstractmethod
    def walk_failed(self) -> None:
        """Show that a walk ended with an error."""

    def read_newest(self, limit: int) -> None:
        """Read the newest tasks."""
        self._read_soon(lambda: self._read_newest(self.channel, limit))

    def refresh_search(self, search: FailSearch) -> None:
        """Bring a search that has ended up to date: tasks have failed since, and some have left."""
        self._read_soon(lambda: self._refresh_search(search, self.channel))

    def extend_search(self, search: FailSearch) -> None:
        """Read the next matches in full."""
        self._read_soon(lambda: self._extend_search(search))

    def read_done(self, took_s: float) -> None:
        """Allow the next read; after a slow one only after a pause."""
        if took_s > 0.05:
            self.set_timer(took_s * _PAUSE_FACTOR, self._allow_read)
        else:
            self._allow_read()

    def after_pause(self, took_s: float, walk: Callable[[], None]) -> None:
        """Walk again, after a pause that is longer the longer the last walk took."""
        self.set_timer(max(0.05, took_s) * _PAUSE_FACTOR, walk)

    def _read_soon(self, read: Callable[[], object]) -> None:
        """Start a read. If another one is running, start this one after it, in place of any that waits already."""
        if self._reading:
            self._read_again = read
        else:
            self._reading = True
            read()

    def _allow_read(self) -> None:
        self._reading = False
        if self._read_again is not None:
            read, self._read_again = self._read_again, None
            self._read_soon(read)

    @work(thread=True, exit_on_error=False, group="fails")
    def _read_newest(self, channel: int | None, limit: int) -> None:
        started = time.monotonic()
        try:
            tasks = tuple(self.host.backend.failed_tasks(channel, 0, limit))
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error))
        else:
            took = time.monotonic() - started
            self.post_message(self.Loaded(tasks, whole=len(tasks) < limit, took_s=took))

    @work(thread=True, exit_on_error=False, group="fails")
    def _refresh_search(self, search: FailSearch, channel: int | None) -> None:
        started, new = time.monotonic(), []
        worker = get_current_worker()
        try:
            backend = self.host.backend
            still = backend.failed_by_id([(t.channel, t.id, t.failed_ms) for t in search.tasks])
            pages = backend.failed_pages(channel) if search.searched else ()
            for page in pages:
                new += [task for task in page if task.failed_ms >= search.newest_ms and search.fits(task)]
                if worker.is_cancelled or (page and page[-1].failed_ms < search.newest_ms):
                    break
            renewed = search.refreshed(still, new)
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error))
        else:
            self.post_message(self.Renewed(search, renewed, time.monotonic() - started))

    @work(thread=True, exit_on_error=False, group="fails")
    def _extend_search(self, search: FailSearch) -> None:
        started = time.monotonic()
        try:
            asked = search.unread(PAGE_SIZE)
            renewed = search.extended(self.host.backend.failed_by_id(asked), len(asked))
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error))
        else:
            self.post_message(self.Renewed(search, renewed, time.monotonic() - started))

    @work(thread=True, exit_on_error=False, group="walk")
    def walk_search(self, search: FailSearch, channel: int | None, wait_s: float = 0.0) -> None:
        """Search all failed tasks, newest first, until the end or until the search is stopped."""
        if search.stopped(wait_s):
            return
        started = told = time.monotonic()
        found: list[FailedTask] = []
        searched = newest_ms = oldest_ms = 0
        try:
            for page in self.host.backend.failed_pages(channel):
                found += filter(search.fits, page)
                searched += len(page)
                if page:
                    newest_ms, oldest_ms = newest_ms or page[0].failed_ms, page[-1].failed_ms
                if search.stopped():
                    break
                if time.monotonic() - told >= _TELL_S:
                    self.post_message(self.Found(search, found, searched, newest_ms, oldest_ms))
                    found, told = [], time.monotonic()
            self.post_message(self.Found(search, found, searched, newest_ms, oldest_ms))
            took = time.monotonic() - started
            self.post_message(self.WalkEnded(search, whole=not search.stopped(), took_s=took))
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error, search))

    @work(thread=True, exit_on_error=False, group="walk")
    def walk_groups(self, count: GroupCount, channel: int | None) -> None:
        """Group all failed tasks, until the end or until the walk is stopped."""
        started = told = time.monotonic()
        groups = FailGroups()
        try:
            for page in self.host.backend.failed_pages(channel):
                groups.add(page)
                if count.stopped():
                    break
                if time.monotonic() - told >= 2 * _TELL_S:
                    self.post_message(self.Counted(count, groups))
                    told = time.monotonic()
            self.post_message(self.Counted(count, groups, whole=not count.stopped()))
            took = time.monotonic() - started
            self.post_message(self.WalkEnded(count, whole=not count.stopped(), took_s=took))
        except Exception as error:  # shown in the status line; the dashboard continues
            self.post_message(self.NotLoaded(error, count))

    @on(NotLoaded)
    def _not_loaded(self, event: NotLoaded) -> None:
        self.host.show_status(f"cannot read the failed tasks: {event.error}", "bad")
        if event.walk is None:
            self.read_done(0.0)
        else:
            event.walk.end(whole=False)
            self.walk_failed()
