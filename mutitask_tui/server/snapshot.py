"""What a dashboard sees: one immutable picture of a namespace at one instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceState = Literal["running", "paused", "offline"]
EventLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class ServerView:
    """The server that holds the namespace. `since_ms` is on Redis's clock, in ms since the epoch."""

    actor: str
    host: str
    pid: int
    since_ms: int
    allotting: bool


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel's books. Counts are tasks; `rate` is tasks settled a second since the last snapshot."""

    id: int
    capacity: int
    waiting: int
    claimed: int
    delayed: int
    done: int
    failed: int
    deleted: int
    allotted: int
    foreign: int
    results: int
    results_max: int
    rate: float
    allotting: bool
    paused: bool
    exhausted: bool
    halted: str
    """Why the feed stands still by itself (an item that cannot be packed, results at their cap), or ''."""
    total: int | None = None
    """How many tasks the generator will yield, where the job says so."""
    oldest_s: float | None = None
    """How long ago the first waiting task was allotted, in seconds, about; None if none waits or nobody knows."""
    errors: int = 0
    """Runs that failed, of tasks in any state: a task that is retried counts each time."""

    @property
    def balanced(self) -> bool:
        """Law 1: every task that was allotted is in exactly one place."""
        return self.missing == 0

    @property
    def missing(self) -> int:
        """How many tasks were allotted and are in no place any more; below 0: how many there are too much."""
        return self.allotted - (
            self.waiting + self.claimed + self.delayed + self.done + self.failed + self.deleted
        )

    @property
    def open(self) -> int:
        """Tasks that are neither done, failed nor deleted."""
        return self.waiting + self.claimed + self.delayed


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device, and the agent on it if there is one. Strings come from the agent: untrusted."""

    id: int
    state: DeviceState
    desired: Literal["running", "paused"]
    actor: str
    host: str
    pid: int
    channel: int
    running: int
    current: str
    """The task that has been running longest, as text; '' when none runs."""
    current_s: float
    """How long that task has been running, in seconds."""
    done: int
    errors: int
    """Its runs that failed, retried or not."""
    seen_s: float | None
    """Whole seconds since its agent last reported, 0 for less than two; None if there never was one."""
    since_ms: int
    version: str
    python: str = ""
    concurrency: int = 0
    tasks: tuple[tuple[str, float], ...] = ()
    """The tasks that are running, at most 16: each as text and for how many seconds, the longest first."""
    task_s: float = 0.0
    """How long its tasks take in the mean, in seconds; 0 where none has ended yet."""
    timeout_s: float = 0.0
    """The time limit of a run (`--timeout`), in seconds; 0 for none."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the namespace's event log."""

    id: str
    at_ms: int
    level: EventLevel
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A task in a FailChannel. `task` and `error` are plain data from strangers: untrusted text."""

    channel: int
    id: str
    number: int
    failed_ms: int
    runs: int
    stage: str
    """Where the last run failed: `run`, `save`, `decode`, `crashed`, `timeout` or `foreign`."""
    error_type: str
    error: str
    traceback: str
    device: int | None
    task: str
    """The payload as text, cut to a few hundred characters."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """Why one run of a task failed. All texts are untrusted."""

    at_ms: int
    device: int | None
    stage: str
    error_type: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True)
class FailedDetail:
    """A failed task in full: its payload and every failed run, oldest first."""

    task: FailedTask
    attempt: int
    crashes: int
    payload: object
    """The payload as plain Python data (`dict`, `list`, `str`, ...; anything that travels); untrusted."""
    unpacks: bool
    """False: `payload` is the raw bytes, which do not unpack or carry no header."""
    json: str | None
    """The payload as indented JSON, to be edited; None where JSON would not give the same value back."""
    size: int
    """Of the payload, in bytes as packed."""
    failed_runs: tuple[FailedRun, ...]


@dataclass(frozen=True, slots=True)
class FailGroup:
    """Failed tasks of one channel with the same error type, stage and place."""

    channel: int
    error_type: str
    stage: str
    where: str
    """The traceback's last `File ..., line ...` in short (`job.py:12 in parse`), or the error's text."""
    count: int
    newest_ms: int
    example: FailedTask


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits, in its place in the channel."""

    id: str
    number: int
    attempt: int
    crashes: int
    task: str
    """The payload as text, cut to a few hundred characters; untrusted."""
    size: int


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result that waits to be drained; `result` is cut text, untrusted."""

    id: str
    number: int
    attempt: int
    device: int
    finished_ms: int
    result: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A channel's books at one moment of the last hour; about one every five seconds."""

    at_ms: int
    waiting: int
    capacity: int
    claimed: int
    done: int
    failed: int
    allotted: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Why the server's own calls are not carried out, and since when (ms, on its machine's clock)."""

    why: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A namespace at one instant, by Redis's clock (`now_ms`)."""

    name: str
    redis: str
    """Host, port and database; never a password."""
    run: str
    now_ms: int
    started_ms: int
    server: ServerView | None
    channels: tuple[ChannelView, ...]
    devices: tuple[DeviceView, ...]
    events: tuple[Event, ...]
    """The newest events, oldest first."""
    wait: Wait | None = None
    """Where the server runs in this process and waits: Redis may answer reads and refuse writes."""

    @property
    def rate(self) -> float:
        """Tasks settled a second over all channels."""
        return sum(channel.rate for channel in self.channels)

    @property
    def balanced(self) -> bool:
        """Whether every channel's books balance."""
        return all(channel.balanced for channel in self.channels)

    @property
    def finished(self) -> bool:
        """Whether every generator is exhausted and nothing is left to run."""
        return bool(self.channels) and all(c.exhausted and c.open == 0 for c in self.channels)
