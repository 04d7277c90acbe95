"""What every adapter shares: what it is asked, the tasks, and the tally that they keep. Standard library only.

An adapter (`on_NAME.py`) runs in its peer's own virtual environment as `python on_NAME.py OPERATION`:

- `work` runs one worker until it is ended,
- `feed` puts `tasks` tasks into Redis from a generator, and prints `{"seconds": ...}`,
- `trickle` puts `rate` tasks a second into Redis for `seconds`, each `stamp(index)`, and prints a line of JSON for
  each: its index, when it was yielded (monotonic), and the Redis command that tells once its result can be read.

Options come as JSON in the environment, because workers that a peer's own command starts read them too.
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
    """What an adapter is asked. `payload` is in bytes; 0 makes the task a running number."""

    url: str
    directory: str
    """Where the tally is kept."""
    tasks: int = 0
    payload: int = 0
    function: str = "noop"
    """`noop`, `nap` (a task that sleeps `nap_ms`) or `stamp`."""
    nap_ms: float = 1.0
    results: bool = True
    concurrency: int = 0
    """Tasks at once in the worker; 0 as the peer's documentation or benchmark has it for throughput."""
    rate: float = 100.0
    seconds: float = 10.0
    capacity: int = 0
    """Most waiting tasks, for MutiTask; 0 lets all of them wait."""
    batch: int = 0
    """Most tasks in one claim, for MutiTask; 0 as it likes."""
    kind: str = "thread"
    """`thread` or `process`, for peers that have both."""

    def environment(self) -> dict[str, str]:
        """What to add to the environment of an adapter that is asked this."""
        return {VARIABLE: json.dumps(asdict(self)), "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1"}


def asked() -> Options:
    """What this adapter is asked."""
    return Options(**json.loads(os.environ[VARIABLE]))


class Tally:
    """How many tasks ran, when the first ended and when the last: one small mapped file for each thread."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._mine = threading.local()

    def mark(self) -> None:
        """One more has run."""
        try:
            counts, times = self._mine.cells
        except AttributeError:
            counts, times = self._mine.cells = self._open()
            times[1] = time.monotonic()
        counts[0] += 1
        times[2] = time.monotonic()

    def _open(self) -> tuple[memoryview, memoryview]:
        path = self._directory / f"tally-{os.getpid()}-{threading.get_native_id()}"
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            cells = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE))
        return cells.cast("Q"), cells.cast("d")


class Reading:
    """Reads the tally of other processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cells: dict[Path, tuple[memoryview, memoryview]] = {}

    def now(self) -> tuple[int, float, float]:
        """How many have run, when the first ended and when the last (monotonic, in seconds)."""
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
    """When each task began: a mapped file of doubles, one for each index."""

    def __init__(self, directory: str, most: int = 1 << 17) -> None:
        path = Path(directory) / "stamps"
        with path.open("a+b") as file:
            file.truncate(8 * most)
            self.at = memoryview(mmap.mmap(file.fileno(), 8 * most)).cast("d")


if VARIABLE in os.environ:
    OPTIONS = asked()
    TALLY = Tally(OPTIONS.directory)
    STAMPS = Stamps(OPTIONS.directory)


def noop(task: Any) -> Any:
    """A task that does nothing but come back."""
    TALLY.mark()
    return task


def nap(task: Any) -> Any:
    """A task that sleeps."""
    time.sleep(OPTIONS.nap_ms / 1000)
    TALLY.mark()
    return task


async def nap_async(task: Any) -> Any:
    """The same on an event loop."""
    await asyncio.sleep(OPTIONS.nap_ms / 1000)
    TALLY.mark()
    return task


def stamp(index: int) -> int:
    """A task that notes when it began."""
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


def items(options: Options) -> Iterator[Any]:
    """The tasks, as a generator."""
    if options.payload:
        body = "x" * options.payload
        for _ in range(options.tasks):
            yield body
    else:
        yield from range(options.tasks)


def chunks(source: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The same in lists, for batch calls: of at most `size` and about 8 MB."""
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


def fed(feed: Callable[[Iterator[Any]], object]) -> None:
    """Time a feed, and say how long it took."""
    began = time.monotonic()
    feed(items(OPTIONS))
    print(json.dumps({"seconds": time.monotonic() - began}))


async def fed_async(feed: Callable[[Iterator[Any]], Awaitable[object]]) -> None:
    """The same for peers that feed from a coroutine."""
    began = time.monotonic()
    await feed(items(OPTIONS))
    print(json.dumps({"seconds": time.monotonic() - began}))


async def one_by_one(
    send: Callable[[Any], Awaitable[object]], source: Iterator[Any], at_once: int = 32
) -> None:
    """Send tasks with so many calls under way at once, as the benchmark of streaQ's repository does for peers."""

    async def sender() -> None:
        for item in source:
            await send(item)

    await asyncio.gather(*(sender() for _ in range(at_once)))


def due() -> Iterator[tuple[int, float]]:
    """The index of each task of a trickle and when it is due (monotonic)."""
    began = time.monotonic() + 0.2
    for index in range(int(OPTIONS.rate * OPTIONS.seconds)):
        yield index, began + index / OPTIONS.rate


def told(index: int, yielded: float, *command: str) -> None:
    """Say that a task was sent, and how to see its result."""
    sys.stdout.write(json.dumps([index, yielded, command]) + "\n")
    sys.stdout.flush()


def trickle(send: Callable[[int], tuple[str, ...]]) -> None:
    """Send tasks when they are due."""
    for index, at in due():
        time.sleep(max(0.0, at - time.monotonic()))
        yielded = time.monotonic()
        told(index, yielded, *send(index))


async def trickle_async(send: Callable[[int], Awaitable[tuple[str, ...]]]) -> None:
    """The same for peers that send from a coroutine."""
    for index, at in due():
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        yielded = time.monotonic()
        told(index, yielded, *await send(index))


def become(command: str, *arguments: str) -> None:
    """Turn into a command of this virtual environment, run in this directory."""
    os.chdir(HERE)
    program = str(Path(sys.executable).with_name(command))
    os.execv(program, [program, *arguments])


def run(**operations: Callable[[], object]) -> None:
    """Do what the command line says."""
    operations[sys.argv[1]]()
