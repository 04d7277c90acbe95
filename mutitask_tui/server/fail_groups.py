"""Groups failed tasks by channel, error, stage and location."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from mutitask_tui.server.snapshot import FailedTask, FailGroup
from worker_agent.protocol.reasons import error_location

GroupKey = tuple[int, str, str, str]
"""The channel, error type, stage and code location of a group."""


class FailGroups:
    """Counts failed tasks by what they have in common, while they are read page by page."""

    def __init__(self) -> None:
        self.counted = 0
        """How many tasks were added."""
        self._groups: dict[GroupKey, tuple[int, int, FailedTask]] = {}

    def add(self, tasks: Iterable[FailedTask]) -> None:
        """Add tasks. The first one of a group becomes its example."""
        for task in tasks:
            key = group_key(task)
            count, newest, example = self._groups.get(key, (0, 0, task))
            self._groups[key] = count + 1, max(newest, task.failed_ms), example
            self.counted += 1

    def groups(self) -> tuple[FailGroup, ...]:
        """Return the groups, the largest first."""
        found = [FailGroup(*key, *group) for key, group in self._groups.items()]
        return tuple(sorted(found, key=lambda group: (-group.count, -group.newest_ms)))


def group_key(task: FailedTask) -> GroupKey:
    """Return what identifies the group of a task."""
    return task.channel, task.error_type, task.stage, _location(task.traceback, task.error)


@lru_cache(maxsize=1024)
def _location(traceback: str, error: str) -> str:
    return error_location(traceback, error)
