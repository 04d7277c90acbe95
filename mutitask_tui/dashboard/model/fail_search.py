"""A search through all failed tasks: what it looks for, how far it is, and what it has found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import overload

from mutitask_tui.dashboard.model.selection import Fail
from mutitask_tui.dashboard.model.text_filter import matcher
from mutitask_tui.server.fail_groups import GroupKey, group_key
from mutitask_tui.server.snapshot import FailedTask, FailGroup

KEPT = 1_000
"""How many matches are kept in full. Of the others only the channel, the id and the time are kept."""


class Prefix(Sequence[Fail]):
    """The first items of a list that only grows. Takes no copy."""

    def __init__(self, items: list[Fail]) -> None:
        self._items, self._length = items, len(items)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Fail: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Fail]: ...
    def __getitem__(self, index: int | slice) -> Fail | Sequence[Fail]:
        return self._items[: self._length][index] if isinstance(index, slice) else self._item(index)

    def _item(self, index: int) -> Fail:
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[index % self._length]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefix) and other._items is self._items and other._length == self._length

    __hash__ = None  # type: ignore[assignment]


class FailSearch:
    """Searches for a text, or for the tasks of a group, from the newest failed task to the oldest.

    A thread finds the matches and calls only `fits` and `stop`. The screen adds what the thread has found.
    """

    def __init__(
        self, filter_text: str = "", group: FailGroup | None = None, known: Iterable[FailedTask] = ()
    ) -> None:
        """Create a search. `known` are tasks that were read before: those that match are shown at once."""
        self.filter_text, self.group = filter_text, group
        self.fits = _test(filter_text, group)
        self.tasks: list[FailedTask] = []
        """The newest matches, in full."""
        self.keys: list[Fail] = []
        """The channel and id of every match, the newest first."""
        self.times: list[int] = []
        """When each of them failed, in ms."""
        self.searched = 0
        """How many tasks were searched."""
        self.newest_ms = 0
        """When the newest of them failed."""
        self.running = True
        self.whole = False
        """Whether the search has ended with the oldest task."""
        self._stopped = threading.Event()
        self._known = sorted(filter(self.fits, known), key=lambda task: -task.failed_ms)

    @property
    def count(self) -> int:
        """How many matches are known."""
        return len(self.keys) + len(self._known)

    @property
    def shown(self) -> tuple[FailedTask, ...]:
        """The matches to list, the newest first: those that were found, then those that were known before."""
        return (*self.tasks, *self._known)

    @property
    def all_keys(self) -> Sequence[Fail]:
        """The channel and id of every known match."""
        return [*self.keys, *map(fail_of, self._known)] if self._known else Prefix(self.keys)

    def unread(self, count: int) -> list[tuple[int, str, int]]:
        """Return the channel, id and time of the newest `count` matches that are not kept in full."""
        part = slice(len(self.tasks), len(self.tasks) + count)
        rest = zip(self.keys[part], self.times[part], strict=True)
        return [(channel, id_, at_ms) for (channel, id_), at_ms in rest]

    def stop(self) -> None:
        """Make the thread end soon."""
        self._stopped.set()

    def stopped(self, wait_s: float = 0.0) -> bool:
        """Return whether the search was stopped. Waits for that for `wait_s` at most."""
        return self._stopped.wait(wait_s) if wait_s else self._stopped.is_set()

    def add(self, found: Sequence[FailedTask], searched: int, newest_ms: int, oldest_ms: int) -> None:
        """Add the next matches. `searched` tasks were searched until now, down to the time `oldest_ms`."""
        self.tasks += found[: max(0, KEPT - len(self.tasks))]
        self.keys += map(fail_of, found)
        self.times += [task.failed_ms for task in found]
        self.searched, self.newest_ms = searched, newest_ms
        if self._known:
            new = set(map(fail_of, found))
            self._known = [t for t in self._known if t.failed_ms <= oldest_ms and fail_of(t) not in new]

    def end(self, *, whole: bool) -> None:
        """Note that the thread has ended, at the oldest task if `whole`."""
        self.running, self.whole = False, whole
        if whole:
            self._known = []

    def extended(self, more: Sequence[FailedTask], asked: int) -> FailSearch:
        """Return this search with more tasks in full: those of the next `asked` matches that are still there."""
        return self._copy([*self.tasks, *more], len(self.tasks) + asked)

    def refreshed(self, still: Sequence[FailedTask], new: Sequence[FailedTask]) -> FailSearch:
        """Return this search after other tasks failed or left.

        `still` are those of `tasks` that are still there. `new` are the matches that failed since the search, and
        maybe some before that.
        """
        fresh = set(map(fail_of, new))
        tasks = [*new, *(task for task in still if fail_of(task) not in fresh)]
        tasks.sort(key=lambda task: -task.failed_ms)
        return self._copy(tasks, len(self.tasks))

    def _copy(self, tasks: list[FailedTask], passed: int) -> FailSearch:
        """Return a copy with these tasks in full. Of the first `passed` keys only those of `tasks` stay."""
        copy = FailSearch(self.filter_text, self.group)
        copy.tasks = tasks
        listed = set(map(fail_of, tasks))
        rest = [
            (key, at_ms)
            for key, at_ms in zip(self.keys[passed:], self.times[passed:], strict=True)
            if key not in listed
        ]
        copy.keys = [*map(fail_of, tasks), *(key for key, _ in rest)]
        copy.times = [*(task.failed_ms for task in tasks), *(at_ms for _, at_ms in rest)]
        copy.searched = self.searched
        copy.newest_ms = max([self.newest_ms, *(task.failed_ms for task in tasks[:1])])
        copy._known = [task for task in self._known if fail_of(task) not in listed]
        copy.end(whole=self.whole)
        return copy


def fail_of(task: FailedTask) -> Fail:
    """Return the channel and id of a task."""
    return task.channel, task.id


def haystack(task: FailedTask) -> str:
    """Return the text of a task that a filter searches, in lower case."""
    device = "" if task.device is None else f"device{task.device}"
    channel = f"taskchannel{task.channel}"
    words = (f"#{task.number}", device, channel, task.stage, task.error_type, task.error[:1000], task.task)
    return " ".join(words).casefold()


def _test(filter_text: str, group: FailGroup | None) -> Callable[[FailedTask], bool]:
    matches = matcher(filter_text) if filter_text.strip() else None
    wanted: GroupKey | None = None
    if group is not None:
        wanted = group.channel, group.error_type, group.stage, group.location

    def fits(task: FailedTask) -> bool:
        if wanted is not None and group_key(task) != wanted:
            return False
        return matches is None or matches(haystack(task))

    return fits
