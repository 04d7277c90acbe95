"""The code that all adapters share: options, tasks and counters. It uses the standard library only.

An adapter (`on_NAME.py`) runs in the virtual environment of its peer as `python on_NAME.py OPERATION`:

- `work` runs one worker until it is killed,
- `feed` feeds `tasks` tasks from a generator into Redis, and prints `{"seconds": ...}`,
- `trickle` feeds `rate` tasks per second into Redis for `seconds`, each of them `stamp(index)`. For each task it prints
  a line of JSON: the index, when the task was yielded (monotonic), and the Redis command that tests for its result.

The options are JSON in the environment, so that workers started by a peer's own command read them too.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "MUTITASK_BENCHMARK"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one measurement."""

    url: str
    """The URL of Redis."""
    directory: str
    """The directory of the tally files."""
    tasks: int = 0
    """The number of tasks."""
    payload: int = 0
    """The size of a payload in bytes; 0 for a running number."""
    function: str = "noop"
    """The task function: `noop`, `nap` (sleeps `nap_ms`), `stamp` (records its start) and others of MutiTask's job."""
    nap_ms: float = 1.0
    """How long `nap` sleeps, in ms."""
    results: bool = True
    """Whether results are saved in Redis."""
    concurrency: int = 0
    """How many tasks a worker runs at once; 0 for the setting that the peer recommends for throughput."""
    additions: int = 0
    """How many numbers `spin` adds."""
    rate: float = 100.0
    """How many tasks per second a trickle feeds."""
    seconds: float = 10.0
    """How long a trickle lasts, in seconds."""
    capacity: int = 0
    """MutiTask's capacity; 0 for the number of tasks."""
    batch: int = 0
    """The most tasks in one of MutiTask's claims; 0 for its own choice."""
    kind: str = "thread"
    """MutiTask's executor: `thread`, `process` or `asyncio`."""
    channels: int = 1
    """How many channels share MutiTask's tasks."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables for an adapter."""
        return {VARIABLE: json.dumps(asdict(self)), "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1"}


def read_options() -> Options:
    """Return the options of this adapter."""
    return Options(**json.loads(os.environ[VARIABLE]))


class Tally:
    """Counts the tasks that ran, with the times of the first and the last. Each thread maps a small file of its own."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._local = threading.local()

    def mark(self) -> None:
        """Count one more task."""
        try:
            counts, times = self._local.cells
        except AttributeError:
            counts, times = self._local.cells = self._open()
            times[1] = time.monotonic()
        counts[0] += 1
        times[2] = time.monotonic()

    def _open(self) -> tuple[memoryview, memoryview]:
        path = self._directory / f"tally-{os.getpid()}-{threading.get_native_id()}"
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            cells = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE))
        return cells.cast("Q"), cells.cast("d")


class TallyReader:
    """Reads the tallies of other processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cells: dict[Path, tuple[memoryview, memoryview]] = {}

    def read(self) -> tuple[int, float, float]:
        """Return how many tasks ran, and when the first and the last ended (monotonic, in seconds)."""
        for path in self._directory.glob("tally-*"):
            if path not in self._cells and path.stat().st_size == mmap.PAGESIZE:
                with path.open("r+b") as file:
                    cells = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE))
                self._cells[path] = cells.cast("Q"), cells.cast("d")
        used = [(int(c[0]), float(t[1]), float(t[2])) for c, t in self._cells.values() if c[0]]
        if not used:
            return 0, 0.0, 0.0
        return sum(u[0] for u in used), min(u[1] for u in used), max(u[2] for u in used)


class Stamps:
    """The start times of tasks: a mapped file with one double for each index (monotonic, in seconds)."""

    def __init__(self, directory: str, most: int = 1 << 17) -> None:
        path = Path(directory) / "stamps"
        with path.open("a+b") as file:
            file.truncate(8 * most)
            self.at = memoryview(mmap.mmap(file.fileno(), 8 * most)).cast("d")


if VARIABLE in os.environ:
    OPTIONS = read_options()
    TALLY = Tally(OPTIONS.directory)
    STAMPS = Stamps(OPTIONS.directory)


def noop(task: Any) -> Any:
    """Return the task."""
    TALLY.mark()
    return task


def add_up(count: int) -> int:
    """Keep a core busy: add the first `count` numbers."""
    total = 0
    for number in range(count):
        total += number
    return total


def nap(task: Any) -> Any:
    """Sleep, then return the task."""
    time.sleep(OPTIONS.nap_ms / 1000)
    TALLY.mark()
    return task


async def nap_async(task: Any) -> Any:
    """`nap` for peers that run coroutines."""
    await asyncio.sleep(OPTIONS.nap_ms / 1000)
    TALLY.mark()
    return task


def stamp(index: int) -> int:
    """Record when the task started, then return the task."""
    STAMPS.at[index] = time.monotonic()
    TALLY.mark()
    return index


async def noop_async(task: Any) -> Any:
    """`noop` for peers that run coroutines."""
    return noop(task)


async def stamp_async(index: int) -> int:
    """`stamp` for peers that run coroutines."""
    return stamp(index)


BLOCKING: dict[str, Callable[[Any], Any]] = {"noop": noop, "nap": nap, "stamp": stamp}
COROUTINES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "noop": noop_async,
    "nap": nap_async,
    "stamp": stamp_async,
}


def items(options: Options, channel: int = 0) -> Iterator[Any]:
    """Yield the tasks of a channel. Without payload, each channel has its share of the numbers."""
    if options.payload:
        body = "x" * options.payload
        for _ in range(options.tasks):
            yield body
    else:
        yield from range(channel, options.tasks, options.channels)


def chunks(source: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of tasks for batch calls, each of at most `size` tasks and about 8 MB."""
    if OPTIONS.payload:
        size = max(1, min(size, 8_000_000 // OPTIONS.payload))
    chunk: list[Any] = []
    for item in source:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def time_feed(feed: Callable[[Iterator[Any]], object]) -> None:
    """Run `feed` with all tasks and print how long it took."""
    started = time.monotonic()
    feed(items(OPTIONS))
    print(json.dumps({"seconds": time.monotonic() - started}))


async def time_feed_async(feed: Callable[[Iterator[Any]], Awaitable[object]]) -> None:
    """`time_feed` for peers that feed from a coroutine."""
    started = time.monotonic()
    await feed(items(OPTIONS))
    print(json.dumps({"seconds": time.monotonic() - started}))


async def send_concurrently(
    send: Callable[[Any], Awaitable[object]], source: Iterator[Any], concurrency: int = 32
) -> None:
    """Send tasks with `concurrency` calls at once, as the benchmark in streaQ's repository does for its peers."""

    async def sender() -> None:
        for item in source:
            await send(item)

    await asyncio.gather(*(sender() for _ in range(concurrency)))


def schedule() -> Iterator[tuple[int, float]]:
    """Yield the index of each task of a trickle, and when it is due (monotonic, in seconds)."""
    started = time.monotonic() + 0.2
    for index in range(int(OPTIONS.rate * OPTIONS.seconds)):
        yield index, started + index / OPTIONS.rate


def report_sent(index: int, yielded: float, *command: str) -> None:
    """Print that a task was sent, with the command that tests for its result."""
    sys.stdout.write(json.dumps([index, yielded, command]) + "\n")
    sys.stdout.flush()


def trickle(send: Callable[[int], tuple[str, ...]]) -> None:
    """Send each task when it is due."""
    for index, at in schedule():
        time.sleep(max(0.0, at - time.monotonic()))
        yielded = time.monotonic()
        report_sent(index, yielded, *send(index))


async def trickle_async(send: Callable[[int], Awaitable[tuple[str, ...]]]) -> None:
    """`trickle` for peers that send from a coroutine."""
    for index, at in schedule():
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        yielded = time.monotonic()
        report_sent(index, yielded, *await send(index))


def exec_command(command: str, *arguments: str) -> None:
    """Replace this process by a command of this virtual environment, in this directory."""
    os.chdir(HERE)
    program = str(Path(sys.executable).with_name(command))
    os.execv(program, [program, *arguments])


def run(**operations: Callable[[], object]) -> None:
    """Run the operation that the command line names."""
    operations[sys.argv[1]]()
