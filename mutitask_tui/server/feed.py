"""Reads one channel's generator in a thread, packs its items, and keeps them ready for the allotter."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from worker_agent.execution import forks
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.printable import printable
from worker_agent.protocol.reasons import name_of
from worker_agent.protocol.task import Task
from worker_agent.protocol.unpatched import time

READY_ITEMS = 1_000
READY_BYTES = 8 * 1024 * 1024
PUSH_ITEMS = 1_000
PUSH_BYTES = 1024 * 1024
SINGLE_ITEM_S = 0.002
"""The feed pushes an item itself if it comes at least this long after the previous one, in seconds."""
_DIGEST_BYTES = 4096

_NO_ITEM = object()


class Feed(threading.Thread):
    """Reads ahead by at most 2,000 items or 8 MiB. Up to 1,000 of these items are being pushed.

    Calls `on_ready(feed, single)` when the allotter has something to push or to record. `single` is true if the items
    come one by one, so that this thread has time to push them itself.

    One thread appends ready items and one thread removes them, so no item needs a lock: a deque's ends are safe, and
    each thread counts the bytes at its own end.

    `cursor` is the count from which the next push continues. A resumed run first skips that many items. It halts at an
    item whose digest differs from the one in `marks`. With `anyway`, `marks` is empty and a shorter generator is no
    error.
    """

    def __init__(
        self,
        channel: int,
        iterator: Iterator[Any],
        run: str,
        cursor: int,
        on_ready: Callable[[Feed, bool], None],
        on_allotted: Callable[[int, Any, int], None] | None = None,
        *,
        marks: Mapping[int, str] | None = None,
        anyway: bool = False,
    ) -> None:
        super().__init__(name=f"feed-{channel}", daemon=True)
        self.channel = channel
        self.cursor = cursor
        self.blocked = False
        """Whether the channel refused items at the last push. A token or the next second resets this."""
        self.end_recorded = False
        """Whether Redis has recorded that this feed is exhausted, or why it halted."""
        self._iterator = iterator
        self._run = run
        self._on_ready = on_ready
        self._on_allotted = on_allotted
        self._marks = marks or {}
        self._anyway = anyway
        self._items: deque[Any] = deque()
        """The unpacked items of `_pushing` and `_ready`, for `on_allotted`."""
        self._ready: deque[bytes] = deque()
        self._ready_bytes = 0
        """The bytes of all items that were ever made ready."""
        self._last_single = (-1, 0.0)
        """The last item that became ready while no other was, and its time (monotonic)."""
        self._pushing: list[bytes] = []
        """Items that the allotter has taken and that are not known to be allotted."""
        self._pushing_bytes = 0
        """Their bytes, with those of bodies that are stored apart: Redis holds them beyond the channel's capacity."""
        self._stored_bytes: dict[bytes, int] = {}
        """How many bytes smaller an item of `_pushing` became when its body was stored apart."""
        self._allotted_bytes = 0
        self._broken = False
        self._changed = threading.Condition()
        self._exhausted = False
        self._halted = ""
        self._skippable = False
        self._stopped = False

    def run(self) -> None:
        """Read until the generator is exhausted or raises, or until the feed is stopped."""
        number, fork_count = self.cursor, forks.count
        if number and not self._skip_allotted(number):
            return
        run, iterator, pack = self._run.encode("ascii"), self._iterator, wire.ValuePacker().pack
        while not self._stopped:
            try:
                item = next(iterator)
                if forks.count != fork_count:
                    forks.end_copy(None)
            except StopIteration:
                if forks.count != fork_count:
                    forks.end_copy(None)
                self._finish()
                return
            except BaseException as error:
                if forks.count != fork_count:
                    forks.end_copy(error)
                self._halt(
                    f"item {number}: the generator raised {_describe(error)}; fix the job, then continue with --resume"
                )
                return
            try:
                # Every item of every run comes through here, so plain items cost no call.
                if type(item) is Task:
                    packed = _packed(item, run, number, pack)
                else:
                    packed = list_item.new_task_header(run, number) + pack(item)
            except Unpackable as error:
                self._halt(
                    f"item {number} is {error}; fix the job and continue with --resume, "
                    f"or skip the item: `mutitask ctl skip_item {self.channel}`",
                    skippable=True,
                )
                if not self._wait_for_skip():
                    return
            else:
                self._add_ready(packed, item, number)
            number += 1

    def _skip_allotted(self, count: int) -> bool:
        """Skip the items that were allotted before. Returns whether the feed continues after them."""
        skipped = 0
        try:
            for number, mark in self._marks.items():
                skipped += _consume(self._iterator, number - skipped)
                item = next(self._iterator) if skipped == number else _NO_ITEM
                if item is _NO_ITEM:
                    break
                skipped += 1
                if not self._matches(item, number, mark):
                    self._halt(
                        f"item {number} differs from the one that was allotted: not the same generator; resume with "
                        "the job that started the run, or pass --resume-anyway to continue with this one from item "
                        f"{count} on, or --fresh"
                    )
                    return False
            skipped += _consume(self._iterator, count - skipped)
        except StopIteration:
            pass
        except Exception as error:
            self._halt(
                f"the generator raised {_describe(error)} while skipping allotted items; "
                "fix the job, then continue with --resume"
            )
            return False
        if skipped >= count:
            return True
        if self._anyway:
            self._finish()
        else:
            self._halt(
                f"the generator ended after {skipped} items, and {count} were allotted: not the same generator; resume "
                "with the job that started the run, or pass --resume-anyway to run the remaining tasks, or --fresh"
            )
        return False

    def _matches(self, item: Any, number: int, mark: str) -> bool:
        try:
            packed = _packed(item, self._run.encode("ascii"), number, wire.ValuePacker().pack)
        except Unpackable:
            return False
        # The mark is the digest of the pushed item, which may have had its body apart or not.
        return mark in (digest(packed), digest(small_form(packed)))

    # Called by the allotter.

    def next_batch(self) -> list[bytes]:
        """Return the next items to push, at most 1,000 or about 1 MiB. They stay until `advance`."""
        if self._broken:
            return []
        pushing, ready, size = self._pushing, self._ready, self._pushing_bytes
        for _ in range(min(PUSH_ITEMS - len(pushing), len(ready))):
            if pushing and size + len(ready[0]) > PUSH_BYTES:
                break
            item = ready.popleft()
            pushing.append(item)
            size += len(item)
        self._pushing_bytes = size
        return pushing[:]

    def replace_pushing(self, items: Sequence[bytes]) -> None:
        """Keep the items to push in this form, after large bodies were stored apart."""
        for large, small in zip(self._pushing, items, strict=True):
            if len(small) < len(large):
                self._stored_bytes[small] = len(large) - len(small)
        self._pushing = list(items)

    def end_after(self, pushed: int) -> tuple[bool, str]:
        """Return whether the generator is exhausted, and why it halted, directly after the first `pushed` items."""
        with self._changed:  # The reading thread sets both only after it has added the last item.
            exhausted, halted = self._exhausted, self._halted
        is_last = self._broken or pushed == len(self._pushing) + len(self._ready)
        return (exhausted and is_last, halted if is_last else "")

    def needs_push(self) -> bool:
        """Return whether there are items to push or an end to record, and the channel may accept them."""
        with self._changed:
            ready = bool(self._ready or self._pushing) and not self._broken
            ended = self._exhausted or bool(self._halted)
            return not self.blocked and (ready or (ended and not self.end_recorded))

    def advance(self, count: int) -> None:
        """Remove `count` pushed items. Only now may a source that cannot repeat its items drop them."""
        last: Any = None
        pushed = self._pushing[:count]
        size = self._pushing_bytes if count == len(self._pushing) else sum(map(len, pushed))
        if self._stored_bytes:
            stored = sum(self._stored_bytes.pop(item, 0) for item in pushed)
            size += 0 if count == len(self._pushing) else stored
        del self._pushing[:count]
        self._pushing_bytes -= size
        if self._on_allotted is not None:
            for _ in range(count):
                last = self._items.popleft()
        with self._changed:
            self.cursor += count
            self._allotted_bytes += size
            self._changed.notify_all()
        if count and self._on_allotted is not None:
            try:
                self._on_allotted(self.cursor, last, self.channel)
            except Exception as error:
                self._break(
                    f"on_allotted raised {_describe(error)}; fix the job, then continue with --resume"
                )

    def can_skip(self, number: int) -> bool:
        """Return whether the feed halted at that item and can continue after it."""
        with self._changed:
            return self._skippable and not self._ready and not self._pushing and number == self.cursor

    def confirm_skip(self) -> None:
        """Continue after the item that Redis has recorded as skipped."""
        with self._changed:
            self.cursor += 1
            self._halted, self._skippable, self.end_recorded = "", False, False
            self._changed.notify_all()

    @property
    def halted(self) -> str:
        """Why the feed halted, or ''."""
        return self._halted

    def stop(self) -> None:
        """Read no further items."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    # Called by the feed's own thread.

    def _add_ready(self, packed: bytes, item: Any, number: int) -> None:
        if self._is_full():
            with self._changed:
                while self._is_full() and not self._stopped:
                    self._changed.wait()
            if self._stopped:
                return
        if self._on_allotted is not None:
            self._items.append(item)
        self._ready_bytes += len(packed)
        self._ready.append(packed)
        if len(self._ready) == 1:
            (previous, previous_at), now = self._last_single, time.monotonic()
            self._last_single = number, now
            self._on_ready(self, previous == number - 1 and now - previous_at > SINGLE_ITEM_S)

    def _is_full(self) -> bool:
        return len(self._ready) >= READY_ITEMS or self._ready_bytes - self._allotted_bytes >= READY_BYTES

    def _finish(self) -> None:
        with self._changed:
            self._exhausted = not self._broken
        self._on_ready(self, False)

    def _break(self, why: str) -> None:
        """Halt for good. Ready items were not allotted, and a resumed run reads them again."""
        with self._changed:
            self._stopped = self._broken = True
            self._exhausted = False
            self._changed.notify_all()
        self._halt(why)

    def _halt(self, why: str, *, skippable: bool = False) -> None:
        with self._changed:
            self._halted, self._skippable = printable(why, 500), skippable
        self._on_ready(self, False)

    def _wait_for_skip(self) -> bool:
        with self._changed:
            while self._halted and not self._stopped:
                self._changed.wait()
            return not self._stopped


def _packed(item: Any, run: bytes, number: int, pack: Callable[[Any], bytes]) -> bytes:
    """Return the list item of what a generator yielded. Raises `Unpackable`."""
    if type(item) is Task:
        return list_item.with_options(
            list_item.new_task_header(run, number) + pack(item.payload), item.options
        )
    return list_item.new_task_header(run, number) + pack(item)


def small_form(item: bytes) -> bytes:
    """Return the form of an inline item whose body is stored apart. Equal items get equal names for their bodies."""
    return list_item.apart(item, digest(item))


def digest(item: bytes) -> str:
    """Return the mark of a list item, as `allot.lua` computes it: a digest of its length and both its ends."""
    ends = item[:_DIGEST_BYTES] + item[-_DIGEST_BYTES:] + b"%d" % len(item)
    return hashlib.sha1(ends, usedforsecurity=False).hexdigest()[:16]


def parse_marks(fields: Mapping[bytes, bytes], cursor: int) -> dict[int, str]:
    """Return the marks of items below `cursor`, in the order of their numbers. Invalid fields are left out."""
    marks: dict[int, str] = {}
    for field, value in fields.items():
        number, mark = value.split(b" ", 1) if field == b"last" and b" " in value else (field, value)
        if number.isdigit() and len(number) <= 16 and int(number) < cursor:
            marks[int(number)] = mark.decode("ascii", "replace")
    return dict(sorted(marks.items()))


def _consume(iterator: Iterator[Any], count: int) -> int:
    """Take up to `count` items. Returns how many there were."""
    return sum(1 for _ in itertools.islice(iterator, count))


def _describe(error: BaseException) -> str:
    name = name_of(type(error))
    try:
        text = str(error)[:200]
    except BaseException:
        text = ""
    return f"{name}: {text}" if text else name
