"""Walks through the failed tasks of one channel or of all, newest first, page by page."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from mutitask_tui.server.reader import FailedRecord, Reader

PAGE = 1_000
"""How many tasks are read at once."""
_IDS = 2_000
"""How many ids are read at once."""

_Place = tuple[float, bytes]
"""A failed task's time in ms and its id: its place in the order of Redis."""


def failed_pages(reader: Reader, channel: int | None, page: int = PAGE) -> Iterator[list[FailedRecord]]:
    """Yield all failed tasks of a channel, or of all channels if it is None, newest first.

    Tasks may fail, or leave, meanwhile: a task that stays is yielded exactly once. Those that fail after the walk has
    begun are not yielded.
    """
    numbers = range(reader.channels()) if channel is None else [channel]
    walks = {number: _Walk(reader, number, page) for number in numbers}
    heap = [(-walk.newest[0], number) for number, walk in walks.items() if walk.newest]
    heapq.heapify(heap)
    while heap:
        chosen: dict[int, list[_Place]] = {}
        for _ in range(page):
            number = heap[0][1]
            walk = walks[number]
            chosen.setdefault(number, []).append(walk.take())
            if walk.newest:
                heapq.heapreplace(heap, (-walk.newest[0], number))
            else:
                heapq.heappop(heap)
                if not heap:
                    break
        yield failed_in(reader, chosen)


def failed_in(reader: Reader, places: Mapping[int, Sequence[_Place]]) -> list[FailedRecord]:
    """Return the failed tasks of several channels that are still there, newest first."""
    found: list[FailedRecord] = []
    for number, of_channel in places.items():
        found += reader.failed_among(number, [(id_, at_ms) for at_ms, id_ in of_channel])
    if len(places) > 1:
        found.sort(key=lambda record: record.view.failed_ms, reverse=True)
    return found


class _Walk:
    """The ids of one channel's failed tasks from the newest on."""

    def __init__(self, reader: Reader, channel: int, page: int) -> None:
        self.channel = channel
        self._reader = reader
        self._rank = 0
        """How many tasks were newer than the last one that was read, when it was read."""
        self._last: _Place | None = None
        self._ended = False
        self._ids: list[_Place] = []
        """The ids that were read and not taken, oldest first."""
        self._read(page)

    @property
    def newest(self) -> _Place | None:
        """The task that `take` returns next. None at the end."""
        return self._ids[-1] if self._ids else None

    def take(self) -> _Place:
        """Return the next task."""
        taken = self._ids.pop()
        if not self._ids and not self._ended:
            self._read(_IDS)
        return taken

    def _read(self, count: int) -> None:
        """Read the ids behind the last one. Its rank has changed if tasks failed or left meanwhile.

        Each page begins with a task that is not behind the last one, so that none is passed over.
        """
        count = max(2, count)
        start, back = max(0, self._rank - 1), count
        while True:
            page = [(at_ms, id_) for id_, at_ms in self._reader.failed_ids(self.channel, start, count)]
            if self._last is not None and start and (not page or page[0] < self._last):
                start, back = max(0, start - back), back * 2
                continue
            older = self._behind_last(page)
            if older or len(page) < count:
                break
            start += len(page) - 1
        self._ended = len(page) < count
        self._rank = start + len(page)
        if older:
            self._last = older[-1]
        self._ids = older[::-1]

    def _behind_last(self, page: Sequence[_Place]) -> list[_Place]:
        if self._last is None:
            return list(page)
        last = self._last
        return [place for place in page if place < last]
