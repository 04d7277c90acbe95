"""One channel's generator: a thread calls `next()`, packs, and lays items ready for the allotter."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from worker_agent.protocol import wire
from worker_agent.protocol.errors import Unpackable

READY_ITEMS = 2_000
READY_BYTES = 8 * 1024 * 1024
PUSH_ITEMS = 1_000
PUSH_BYTES = 1024 * 1024


class Feed(threading.Thread):
    """Reads ahead of the allotter by at most 2,000 items or 8 MiB; calls `on_ready` when it has news.

    `cursor` is the count from which the next push continues; a resumed run passes over that many items first.
    """

    def __init__(
        self,
        channel: int,
        iterator: Iterator[Any],
        run: str,
        cursor: int,
        on_ready: Callable[[], None],
        on_allotted: Callable[[int, Any, int], None] | None = None,
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
        self._items: deque[Any] = deque()
        self._ready: deque[bytes] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._exhausted = False
        self._halted = ""
        self._skippable = False
        self._ended = False

    def run(self) -> None:
        """Until the generator is exhausted or broken, or the feed is ended."""
        number = self.cursor
        try:
            passed = sum(1 for _ in itertools.islice(self._iterator, number)) if number else 0
        except Exception as error:
            self._halt(
                f"the generator raised {_described(error)} while passing over allotted items; "
                "mend the job, then go on with --resume"
            )
            return
        if passed < number:
            self._halt(
                f"the generator ended after {passed} items, and {number} were allotted: "
                "not the same one; resume with the job that the run was begun with, or pass --fresh"
            )
            return
        while not self._ended:
            try:
                item = next(self._iterator)
            except StopIteration:
                self._finish()
                return
            except BaseException as error:
                self._halt(
                    f"item {number}: the generator raised {_described(error)}; mend the job, then go on with --resume"
                )
                return
            try:
                packed = wire.header(self._run, number) + wire.pack(item)
            except Unpackable as error:
                self._halt(
                    f"item {number} is {error}; mend the job and go on with --resume, "
                    f"or pass the item over: `mutitask ctl skip_item {self.channel}`",
                    skippable=True,
                )
                if not self._wait_for_skip():
                    return
            else:
                self._lay(packed, item)
            number += 1

    # -- the allotter's side -------------------------------------------------------------------------

    def ready(self) -> list[bytes]:
        """The next items to push, at most 1,000 or about 1 MiB; they stay until `advance`."""
        with self._change:
            batch: list[bytes] = []
            size = 0
            for item in itertools.islice(self._ready, PUSH_ITEMS):
                if batch and size + len(item) > PUSH_BYTES:
                    break
                batch.append(item)
                size += len(item)
            return batch

    def ending(self, pushed: int) -> tuple[bool, str]:
        """Whether the generator ends, or why it stands still, right behind the first `pushed` ready items."""
        with self._change:
            last = pushed == len(self._ready)
            return (self._exhausted and last, self._halted if last else "")

    def has_news(self) -> bool:
        """Whether something is to be pushed or told now."""
        with self._change:
            return bool(self._ready) or ((self._exhausted or bool(self._halted)) and not self.told)

    def advance(self, count: int) -> None:
        """`count` items were pushed: now, and not before, a source that cannot be repeated may let go of them."""
        last: Any = None
        with self._change:
            for _ in range(count):
                self._bytes -= len(self._ready.popleft())
                if self._on_allotted is not None:
                    last = self._items.popleft()
            self.cursor += count
            self._change.notify_all()
        if count and self._on_allotted is not None:
            try:
                self._on_allotted(self.cursor, last, self.channel)
            except Exception as error:
                self._break(f"on_allotted raised {_described(error)}; mend the job, then go on with --resume")

    def skip(self, number: int) -> bool:
        """Whether the feed stands at that item and goes on behind it."""
        with self._change:
            return self._skippable and not self._ready and number == self.cursor

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

    def _lay(self, packed: bytes, item: Any) -> None:
        with self._change:
            while not self._ended and (len(self._ready) >= READY_ITEMS or self._bytes >= READY_BYTES):
                self._change.wait()
            if self._ended:
                return
            self._ready.append(packed)
            if self._on_allotted is not None:
                self._items.append(item)
            self._bytes += len(packed)
            first = len(self._ready) == 1
        if first:
            self._on_ready()

    def _finish(self) -> None:
        with self._change:
            self._exhausted = True
        self._on_ready()

    def _break(self, why: str) -> None:
        """Stand still for good; what is ready was not allotted, and a resumed run meets it again."""
        with self._change:
            self._ended = True
            self._ready.clear()
            self._items.clear()
            self._bytes = 0
            self._exhausted = False
            self._change.notify_all()
        self._halt(why)

    def _halt(self, why: str, *, skippable: bool = False) -> None:
        with self._change:
            self._halted, self._skippable = why, skippable
        self._on_ready()

    def _wait_for_skip(self) -> bool:
        with self._change:
            while self._halted and not self._ended:
                self._change.wait()
            return not self._ended


def _described(error: BaseException) -> str:
    try:
        text = str(error)[:200]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
