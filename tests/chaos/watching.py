"""Take snapshots of a running fleet's counters all the time, and check the run at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType

from mutitask_tui.server.reader import Reader
from tests.chaos.scenarios import Context, Row
from tests.crashes.fleet import NAME, Fleet, Recorded
from tests.support.waiting import wait_until
from worker_agent.protocol.errors import MutiTaskError

LOOK_S = 0.05


def numbers(count: int, seconds: float = 0.001) -> str:
    """Return a job of `count` tasks 0, 1, 2, ... Each takes `seconds` and returns itself."""
    return f"""
        import time

        def tasks():
            yield from range({count})

        def task_function(task):
            time.sleep({seconds})
            return task
        """


def coroutines(count: int, seconds: float = 0.001) -> str:
    """Return the same job with a coroutine that shares a semaphore with the others of its agent."""
    return f"""
        import asyncio

        async def tasks():
            for number in range({count}):
                yield number

        async def setup():
            global at_once
            at_once = asyncio.Semaphore(15)

        async def task_function(task):
            async with at_once:
                await asyncio.sleep({seconds})
            return task
        """


def until_enough(seconds: float = 0.001) -> str:
    """Return the same job with an endless generator that `enough` ends. Only for servers that are never killed."""
    return f"""
        import time
        from pathlib import Path

        def tasks():
            number = 0
            while not Path(FOLDER, "enough").exists():
                yield number
                number += 1
            Path(FOLDER, "yielded").write_text(str(number))

        def task_function(task):
            time.sleep({seconds})
            return task
        """


def enough(fleet: Fleet) -> int:
    """End the generator of a job of `until_enough`. Return the number of tasks that it yielded."""
    (fleet.folder / "enough").touch()
    yielded = fleet.folder / "yielded"
    wait_until(lambda: yielded.exists() and yielded.read_text(), 30, what="the generator ended")
    return int(yielded.read_text())


class Watch:
    """Take a snapshot of all channels every `look_s` seconds inside a `with` block.

    `looks` is the number of snapshots. `pause_s` is the longest time in seconds in which no task was settled although
    work was open. It starts at the first settled task and includes the time without Redis. `unbalanced` holds the
    counters that did not balance, `back` the counters that went down. With `reloads`, failed tasks may be open again.
    """

    def __init__(self, fleet: Fleet, look_s: float = LOOK_S, *, reloads: bool = False) -> None:
        self.looks = 0
        self.pause_s = 0.0
        self.unbalanced: list[str] = []
        self.back: list[str] = []
        self._look_s = look_s
        self._reloads = reloads
        self._reader = Reader(fleet.redis.url, NAME)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._settled = self._allotted = 0
        self._since: float | None = None

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(20)
        self._reader.client.close()

    def forget(self) -> None:
        """Allow the counters to go down once, because Redis has lost its last writes."""
        self._settled = self._allotted = 0

    def _run(self) -> None:
        while not self._ended.wait(self._look_s):
            try:
                channels = self._reader.snapshot().channels
            except MutiTaskError:
                self._note_pause()
                continue
            self.looks += 1
            self.unbalanced += [str(channel) for channel in channels if not channel.balanced]
            settled = sum(
                channel.done + channel.deleted + (0 if self._reloads else channel.failed)
                for channel in channels
            )
            allotted, still_open = sum(c.allotted for c in channels), sum(c.open for c in channels)
            if settled < self._settled or allotted < self._allotted:
                self.back.append(f"{self._allotted}, {self._settled} before: {channels}")
            if settled > self._settled or (still_open == 0 and self._since is not None):
                self._note_pause()
                self._since = time.monotonic()
            else:
                self._note_pause()
            self._settled, self._allotted = settled, allotted

    def _note_pause(self) -> None:
        if self._since is not None:
            self.pause_s = max(self.pause_s, time.monotonic() - self._since)


def judge(
    context: Context,
    fleet: Fleet,
    watch: Watch,
    count: int,
    *,
    times: int,
    killers: Collection[int] = (),
    fail_first: int = 0,
    saved: Callable[[], list[Recorded]] | None = None,
    timeout: float = 60.0,
) -> Row:
    """Wait until a job of `numbers` ends, and compare the recorded results with the tasks of its generator.

    `killers` are the tasks that must fail as `crashed`. No other task may fail. If `fail_first` is not 0, every task
    whose number it divides failed in its first run. No other task may have used up a retry. `saved` reads the results
    if a save function of the job stores them.
    """
    counters = fleet.wait_until_over(count, timeout)
    recorded = saved() if saved else fleet.results()
    failed = {task.number: task for task in fleet.failed()}
    there = {each.number for each in recorded}
    row = Row(
        context.fault, times, counters.allotted, counters.done, counters.failed,
        lost=len(set(range(count)) - there - failed.keys()),
        twice=len(recorded) - len(there),
        balanced=not watch.unbalanced, looks=watch.looks, pause_s=watch.pause_s,
    )  # fmt: skip
    expect_promises(row, watch)
    row.expect(there <= set(range(count)), "results of tasks that the generator did not yield")
    row.expect(
        counters.done == len(recorded) and counters.deleted == 0, f"{len(recorded)} results, but {counters}"
    )
    wrong = [each for each in recorded if each.value != each.number]
    row.expect(not wrong, f"an item was allotted under another's number: {wrong[:3]}")
    innocent = [task for number, task in failed.items() if number not in killers]
    row.expect(not innocent, f"{len(innocent)} innocent tasks failed: {innocent[:1]}")
    row.expect(failed.keys() >= set(killers), f"killers that did not fail: {set(killers) - failed.keys()}")
    retried = [r for r in recorded if r.attempt != int(bool(fail_first) and r.number % fail_first == 0)]
    row.expect(saved or not retried, f"a crash used up retries: {retried[:3]}")
    return row


def expect_promises(row: Row, watch: Watch) -> None:
    """Expect what every scenario promises: nothing lost, nothing recorded twice, balanced counters that only grow."""
    row.expect(row.lost == 0, f"{row.lost} tasks were lost")
    row.expect(row.twice == 0, f"{row.twice} results were recorded twice")
    row.expect(row.balanced, f"the counters did not balance: {watch.unbalanced[:1]}")
    row.expect(watch.looks, "the watch took no snapshot")
    row.expect(not watch.back, f"what Redis had acknowledged is gone: {watch.back[:1]}")


def crashed_twice(recorded: Collection[Recorded]) -> int:
    """Return the number of done tasks that were in flight twice when an agent died."""
    return sum(each.crashes == 2 for each in recorded)
