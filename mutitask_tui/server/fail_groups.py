"""Groups failed tasks by channel, error, stage and location."""

from __future__ import annotations

import heapq
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

    def __len__(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)

    def groups(self, most: int | None = None) -> tuple[FailGroup, ...]:
        """Return the groups, the largest first; only the `most` largest if that is given."""
        found = [(-count, -newest, key) for key, (count, newest, _) in self._groups.items()]
        chosen = sorted(found) if most is None else heapq.nsmallest(most, found)
        return tuple(FailGroup(*key, *self._groups[key]) for _, _, key in chosen)


def group_key(task: FailedTask) -> GroupKey:
    """Return what identifies the group of a task."""
    return task.channel, task.error_type, task.stage, _location(task.traceback, task.error)


@lru_cache(maxsize=1024)
def _location(traceback: str, error: str) -> str:
    return error_location(traceback, error)
