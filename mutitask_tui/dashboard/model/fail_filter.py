"""Which of the failed tasks that were read are shown: all, those of one group, those that match a filter."""

from __future__ import annotations

from mutitask_tui.dashboard.model.selection import Fail
from mutitask_tui.dashboard.widgets.line_input import matcher
from mutitask_tui.server.inspector import where
from mutitask_tui.server.snapshot import FailedTask, FailGroup


class FailView:
    """Holds failed tasks, newest first, and what a person narrowed them down to."""

    def __init__(self) -> None:
        self.tasks: tuple[FailedTask, ...] = ()
        self.shown: tuple[FailedTask, ...] = ()
        """Those that match."""
        self.whole = False
        """Whether no older ones are left to be read."""
        self.wanted = ""
        """The filter's words."""
        self.group: FailGroup | None = None
        """The one group whose tasks are shown."""
        self._haystacks: list[str] = []

    @property
    def narrow(self) -> bool:
        """Whether not all of the tasks are meant to be shown."""
        return bool(self.wanted.strip()) or self.group is not None

    @property
    def keys(self) -> list[Fail]:
        """Channel and id of every task that was read."""
        return [(task.channel, task.id) for task in self.tasks]

    def take(self, tasks: tuple[FailedTask, ...], haystacks: list[str], *, whole: bool) -> None:
        """These were read; `haystacks` are what a filter looks at, one for each."""
        self.tasks, self._haystacks, self.whole = tasks, haystacks, whole
        self._choose()

    def narrow_down(self, wanted: str, group: FailGroup | None) -> None:
        """Show only what matches and belongs to the group."""
        self.wanted, self.group = wanted, group
        self._choose()

    def _choose(self) -> None:
        found = self.tasks
        if self.wanted.strip():
            fits = matcher(self.wanted)
            found = tuple(t for t, text in zip(found, self._haystacks, strict=True) if fits(text))
        if self.group is not None:
            group = self.group
            key = (group.channel, group.error_type, group.stage, group.where)
            found = tuple(task for task in found if group_key(task) == key)
        self.shown = found


def haystack(task: FailedTask) -> str:
    """What a filter looks at, in lower case."""
    device = "" if task.device is None else f"device{task.device}"
    channel = f"taskchannel{task.channel}"
    words = (f"#{task.number}", device, channel, task.stage, task.error_type, task.error[:1000], task.task)
    return " ".join(words).casefold()


def group_key(task: FailedTask) -> tuple[int, str, str, str]:
    """The group that a task belongs to."""
    return task.channel, task.error_type, task.stage, where(task.traceback, task.error)
