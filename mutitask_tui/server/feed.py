"""One channel's generator: a thread calls `next()`, packs, and lays items ready for the allotter."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mutitask_tui.server.marks import digest
from worker_agent.execution import forks
from worker_agent.protocol import wire
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.printable import printable
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import name_of

READY_ITEMS = 1_000
READY_BYTES = 8 * 1024 * 1024
PUSH_ITEMS = 1_000
PUSH_BYTES = 1024 * 1024
SINGLY_S = 0.002
"""An item that comes so long after the one before it is pushed by the feed itself."""


class Feed(threading.Thread):
    """Reads ahead by at most 2,000 items, of which 1,000 are being pushed, or 8 MiB.

    Calls `on_ready` when it has news; with True where the items come singly, so that this thread has time to push.
    One thread lays items ready and one takes them, so neither locks for an item:
    a deque's ends are safe, and each counts the bytes of its own end. `cursor` is the count from which the next push
    continues; a resumed run passes over that many items first, and stands still where one is another than `marks` tell
    (`anyway`: it goes on).
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
        """Whether the channel took no more the last time; a token or a second ends that."""
        self.told = False
        """Whether the channel's books know how this feed ended or why it stands still."""
        self._iterator = iterator
        self._run = run
        self._on_ready = on_ready
        self._on_allotted = on_allotted
        self._marks = marks or {}
        self._anyway = anyway
        self._items: deque[Any] = deque()
        self._ready: deque[bytes] = deque()
        self._laid_bytes = 0
        self._last_alone = (-1, 0.0)
        """The last item that was laid where none was ready, and when (monotonic)."""
        self._pushing: list[bytes] = []
        """Taken from what is ready and not known to be allotted."""
        self._pushing_bytes = 0
        self._allotted_bytes = 0
        self._broken = False
        self._change = threading.Condition()
        self._exhausted = False
        self._halted = ""
        self._skippable = False
        self._ended = False

    def run(self) -> None:
        """Until the generator is exhausted or broken, or the feed is ended."""
        number, forked = self.cursor, forks.count
        if number and not self._pass_over(number):
            return
        run, iterator, pack = self._run.encode("ascii"), self._iterator, wire.ValuePacker().pack
        while not self._ended:
            try:
                item = next(iterator)
                if forks.count != forked:
                    forks.end_copy(None)
            except StopIteration:
                if forks.count != forked:
                    forks.end_copy(None)
                self._finish()
                return
            except BaseException as error:
                if forks.count != forked:
                    forks.end_copy(error)
                self._halt(
                    f"item {number}: the generator raised {_described(error)}; mend the job, then go on with --resume"
                )
                return
            try:
                packed = wire.new_task_header(run, number) + pack(item)
            except Unpackable as error:
                self._halt(
                    f"item {number} is {error}; mend the job and go on with --resume, "
                    f"or pass the item over: `mutitask ctl skip_item {self.channel}`",
                    skippable=True,
                )
                if not self._wait_for_skip():
                    return
            else:
                self._lay(packed, item, number)
            number += 1

    def _pass_over(self, count: int) -> bool:
        """Pass over the items that were allotted before; whether the feed goes on behind them."""
        passed = 0
        try:
            for number, told in self._marks.items():
                passed += _passed(self._iterator, number - passed)
                item = next(self._iterator) if passed == number else _NOTHING
                if item is _NOTHING:
                    break
                passed += 1
                if not self._is_same(item, number, told):
                    self._halt(
                        f"item {number} is another one than when it was allotted: not the same generator; resume with "
                        "the job that the run was begun with, or pass --resume-anyway to go on with this one from item "
                        f"{count} on, or --fresh"
                    )
                    return False
            passed += _passed(self._iterator, count - passed)
        except StopIteration:
            pass
        except Exception as error:
            self._halt(
                f"the generator raised {_described(error)} while passing over allotted items; "
                "mend the job, then go on with --resume"
            )
            return False
        if passed >= count:
            return True
        if self._anyway:
            self._finish()
        else:
            self._halt(
                f"the generator ended after {passed} items, and {count} were allotted: not the same one; resume with "
                "the job that the run was begun with, or pass --resume-anyway to run what is left, or --fresh"
            )
        return False

    def _is_same(self, item: Any, number: int, told: str) -> bool:
        try:
            packed = wire.new_task_header(self._run.encode("ascii"), number) + wire.ValuePacker().pack(item)
        except Unpackable:
            return False
        return digest(packed) == told

    # -- the allotter's side -------------------------------------------------------------------------

    def ready(self) -> list[bytes]:
        """The next items to push, at most 1,000 or about 1 MiB; they stay until `advance`."""
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

    def ending(self, pushed: int) -> tuple[bool, str]:
        """Whether the generator ends, or why it stands still, right behind the first `pushed` ready items."""
        with self._change:  # Whoever lays items is told to end or to stand still behind the last one only.
            exhausted, halted = self._exhausted, self._halted
        last = self._broken or pushed == len(self._pushing) + len(self._ready)
        return (exhausted and last, halted if last else "")

    def has_news(self) -> bool:
        """Whether something is to be pushed or told now, and the channel may take it."""
        with self._change:
            ready = bool(self._ready or self._pushing) and not self._broken
            return not self.blocked and (ready or ((self._exhausted or bool(self._halted)) and not self.told))

    def advance(self, count: int) -> None:
        """`count` items were pushed: now, and not before, a source that cannot be repeated may let go of them."""
        last: Any = None
        size = self._pushing_bytes if count == len(self._pushing) else sum(map(len, self._pushing[:count]))
        del self._pushing[:count]
        self._pushing_bytes -= size
        if self._on_allotted is not None:
            for _ in range(count):
                last = self._items.popleft()
        with self._change:
            self.cursor += count
            self._allotted_bytes += size
            self._change.notify_all()
        if count and self._on_allotted is not None:
            try:
                self._on_allotted(self.cursor, last, self.channel)
            except Exception as error:
                self._break(f"on_allotted raised {_described(error)}; mend the job, then go on with --resume")

    def skip(self, number: int) -> bool:
        """Whether the feed stands at that item and goes on behind it."""
        with self._change:
            return self._skippable and not self._ready and not self._pushing and number == self.cursor

    def skipped(self) -> None:
        """The books passed the item over: go on behind it."""
        with self._change:
            self.cursor += 1
            self._halted, self._skippable, self.told = "", False, False
            self._change.notify_all()

    @property
    def halted(self) -> str:
        """Why it stands still, or ''."""
        return self._halted

    def end(self) -> None:
        """Read no further."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    # -- the reader's side ---------------------------------------------------------------------------

    def _lay(self, packed: bytes, item: Any, number: int) -> None:
        if self._is_full():
            with self._change:
                while self._is_full() and not self._ended:
                    self._change.wait()
            if self._ended:
                return
        if self._on_allotted is not None:
            self._items.append(item)
        self._laid_bytes += len(packed)
        self._ready.append(packed)
        if len(self._ready) == 1:
            (before, at), now = self._last_alone, time.monotonic()
            self._last_alone = number, now
            self._on_ready(self, before == number - 1 and now - at > SINGLY_S)

    def _is_full(self) -> bool:
        return len(self._ready) >= READY_ITEMS or self._laid_bytes - self._allotted_bytes >= READY_BYTES

    def _finish(self) -> None:
        with self._change:
            self._exhausted = not self._broken
        self._on_ready(self, False)

    def _break(self, why: str) -> None:
        """Stand still for good; what is ready was not allotted, and a resumed run meets it again."""
        with self._change:
            self._ended = self._broken = True
            self._exhausted = False
            self._change.notify_all()
        self._halt(why)

    def _halt(self, why: str, *, skippable: bool = False) -> None:
        with self._change:
            self._halted, self._skippable = printable(why, 500), skippable
        self._on_ready(self, False)

    def _wait_for_skip(self) -> bool:
        with self._change:
            while self._halted and not self._ended:
                self._change.wait()
            return not self._ended


def _passed(iterator: Iterator[Any], count: int) -> int:
    """Take so many items; how many there were."""
    return sum(1 for _ in itertools.islice(iterator, count))


_NOTHING = object()


def _described(error: BaseException) -> str:
    name = name_of(type(error))
    try:
        text = str(error)[:200]
    except BaseException:
        text = ""
    return f"{name}: {text}" if text else name
