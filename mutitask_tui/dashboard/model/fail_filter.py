"""Chooses which of the failed tasks are shown: all, one group, or those that match a filter."""

from __future__ import annotations

from mutitask_tui.dashboard.model.selection import Fail
from mutitask_tui.dashboard.model.text_filter import matcher
from mutitask_tui.server.snapshot import FailedTask, FailGroup
from worker_agent.protocol.reasons import error_location


class FailFilter:
    """Holds failed tasks, newest first, and those of them that pass the filter."""

    def __init__(self) -> None:
        self.tasks: tuple[FailedTask, ...] = ()
        self.shown: tuple[FailedTask, ...] = ()
        """The tasks that pass the filter."""
        self.whole = False
        """Whether `tasks` holds all failed tasks, so that none is left to read."""
        self.filter_text = ""
        self.group: FailGroup | None = None
        """The only group whose tasks are shown, or None."""
        self._haystacks: list[str] = []

    @property
    def active(self) -> bool:
        """Whether a filter or a group is chosen."""
        return bool(self.filter_text.strip()) or self.group is not None

    @property
    def keys(self) -> list[Fail]:
        """The channel and id of every task in `tasks`."""
        return [(task.channel, task.id) for task in self.tasks]

    def set_tasks(self, tasks: tuple[FailedTask, ...], haystacks: list[str], *, whole: bool) -> None:
        """Replace the tasks. `haystacks` holds the text of each task that the filter searches."""
        self.tasks, self._haystacks, self.whole = tasks, haystacks, whole
        self._apply()

    def set_filter(self, filter_text: str, group: FailGroup | None) -> None:
        """Show only the tasks that match the text and belong to the group."""
        self.filter_text, self.group = filter_text, group
        self._apply()

    def _apply(self) -> None:
        found = self.tasks
        if self.filter_text.strip():
            fits = matcher(self.filter_text)
            found = tuple(t for t, text in zip(found, self._haystacks, strict=True) if fits(text))
        if self.group is not None:
            group = self.group
            key = (group.channel, group.error_type, group.stage, group.location)
            found = tuple(task for task in found if group_key(task) == key)
        self.shown = found


def haystack(task: FailedTask) -> str:
    """Return the text of a task that a filter searches, in lower case."""
    device = "" if task.device is None else f"device{task.device}"
    channel = f"taskchannel{task.channel}"
    words = (f"#{task.number}", device, channel, task.stage, task.error_type, task.error[:1000], task.task)
    return " ".join(words).casefold()


def group_key(task: FailedTask) -> tuple[int, str, str, str]:
    """Return what identifies the group of a task."""
    return task.channel, task.error_type, task.stage, error_location(task.traceback, task.error)
