"""The immutable data that a dashboard shows: a namespace at one instant, and its details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from worker_agent.protocol.served_channels import Served

DeviceState = Literal["running", "paused", "offline"]
EventLevel = Literal["info", "warning", "error"]

_MAX_NAMED = 8
"""How many channels or devices are named. The others are counted."""


@dataclass(frozen=True, slots=True)
class ServerView:
    """The server that holds the namespace. `since_ms` is its start on Redis's clock, in ms since the epoch."""

    actor: str
    host: str
    pid: int
    since_ms: int
    allotting: bool
    job: str = ""
    """The version of its job file, in 12 hexadecimal digits. '' for a program of its own."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel's counters, in tasks. `rate` is the number of settled tasks per second over the last 3 s."""

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
    """Why the feed halted (an item that cannot be packed, results at their limit), or ''."""
    total: int | None = None
    """How many tasks the generator will yield, if the job knows."""
    oldest_s: float | None = None
    """About how long ago the first waiting task was allotted, in seconds. None if no task waits or it is unknown."""
    errors: int = 0
    """How many runs failed, of tasks in any state. A retried task counts each time."""
    rate_limit: str = ""
    """How many tasks may start in a time, such as `10/s`. '' if there is no limit."""

    @property
    def balanced(self) -> bool:
        """Whether every allotted task is in exactly one place (law 1)."""
        return self.missing == 0

    @property
    def missing(self) -> int:
        """How many allotted tasks are in no place any more. Negative: how many tasks exist beyond the allotted ones."""
        return self.allotted - (
            self.waiting + self.claimed + self.delayed + self.done + self.failed + self.deleted
        )

    @property
    def open(self) -> int:
        """How many tasks are neither done, failed nor deleted."""
        return self.waiting + self.claimed + self.delayed


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that a device runs, as its agent reported it. All strings are untrusted."""

    text: str
    """The payload as text, cut to 80 characters."""
    seconds: float
    """How long it has been running."""
    id: str = ""
    channel: int = 0
    done: float | None = None
    """How much is done, if the task function says so (`current_task().progress`)."""
    total: float | None = None
    """Of how much, if it says so."""
    note: str = ""
    line: str = ""
    """The last line that it printed or logged, cut to 120 characters. '' if there is none."""

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1. None if it is unknown."""
        if self.done is None or not self.total:
            return None
        return min(1.0, self.done / self.total)

    @property
    def left_s(self) -> float | None:
        """About how long it will still run, at its mean speed until now. None if it is unknown."""
        if not (share := self.share):
            return None
        return self.seconds * (1 - share) / share

    @property
    def number(self) -> int:
        """The number of the task. 0 if its id has none."""
        digits = self.id[8:]
        return int(digits) if digits.isascii() and digits.isdigit() else 0


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device and the agent on it, if any. The strings come from the agent and are untrusted."""

    id: int
    state: DeviceState
    desired: Literal["running", "paused"]
    actor: str
    host: str
    pid: int
    channel: int
    """The lowest number in `channels`, as the agent reports it."""
    running: int
    current: str
    """The longest-running task, as text. '' if no task runs."""
    current_s: float
    """How long that task has been running, in seconds."""
    done: int
    errors: int
    """How many of its runs failed, retried or not."""
    seen_s: float | None
    """Whole seconds since the last heartbeat, 0 until the next one is late. None if the device never had an agent."""
    since_ms: int
    version: str
    python: str = ""
    concurrency: int = 0
    tasks: tuple[RunningTask, ...] = ()
    """At most 16 running tasks. The longest-running task is first."""
    task_s: float = 0.0
    """The mean duration of its tasks in seconds. 0 if no task has ended yet."""
    timeout_s: float = 0.0
    """The time limit of a run (`--timeout`), in seconds. 0 for no limit."""
    channels: Served = ()
    """The channels that its agent serves, or served last. None for all, () if it never had an agent."""
    job: str = ""
    """The version of the job file that its agent has loaded. '' if it has loaded none, or does not tell."""
    job_changed: bool = False
    """Whether that file is another one on the disk now."""
    log_file: str = ""
    """The path of the log of a local agent, on its machine. '' for other agents."""

    @property
    def channel_set(self) -> frozenset[int] | None:
        """The served channels without their order. None for all."""
        return None if self.channels is None else frozenset(self.channels)

    def serves(self, channel: int) -> bool:
        """Return whether its agent serves the channel."""
        return self.channels is None or channel in self.channels


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the namespace's event log. `source` is its author, such as `Device0` or `server host:pid`."""

    id: str
    at_ms: int
    level: EventLevel
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A task in a FailChannel. `task` and `error` are untrusted text."""

    channel: int
    id: str
    number: int
    failed_ms: int
    runs: int
    stage: str
    """The stage at which the last run failed: `run`, `save`, `decode`, `crashed`, `timeout`, `cancelled`..."""
    error_type: str
    error: str
    traceback: str
    device: int | None
    task: str
    """The payload as text, cut to a few hundred characters."""
    lines: tuple[str, ...] = ()
    """The last lines that its last run printed or logged: at most 20. Untrusted."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """Why one run of a task failed. All texts are untrusted."""

    at_ms: int
    device: int | None
    stage: str
    error_type: str
    error: str
    traceback: str
    delay_ms: int | None = None
    """How long the task waited before its next run. None if it ran again at once, or not at all."""
    given_up: str = ""
    """Why the task did not run again. '' if it did."""
    lines: tuple[str, ...] = ()
    """The last lines that the run printed or logged, oldest first: at most 50."""


@dataclass(frozen=True, slots=True)
class FailedDetail:
    """A failed task in full: its payload and all its failed runs, oldest first."""

    task: FailedTask
    attempt: int
    crashes: int
    payload: object
    """The payload as plain Python data (`dict`, `list`, `str` or anything else that msgpack carries). Untrusted."""
    unpacks: bool
    """False if `payload` is raw bytes because the item does not unpack or has no header."""
    json: str | None
    """The payload as indented JSON for editing. None if JSON would not return the same value."""
    size: int
    """The size of the packed payload in bytes."""
    failed_runs: tuple[FailedRun, ...]


@dataclass(frozen=True, slots=True)
class RunningDetail:
    """The payload of a running task, as plain Python data, and its size in bytes. Untrusted."""

    payload: object
    size: int


@dataclass(frozen=True, slots=True)
class FailGroup:
    """Failed tasks of one channel with the same error type, stage and location."""

    channel: int
    error_type: str
    stage: str
    location: str
    """The last frame of the traceback (`job.py:12 in parse`), or the error's text."""
    count: int
    newest_ms: int
    example: FailedTask


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A waiting task."""

    id: str
    number: int
    attempt: int
    crashes: int
    task: str
    """The payload as text, cut to a few hundred characters. Untrusted."""
    size: int
    """The size of the packed payload in bytes."""


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result that waits to be drained. `result` is untrusted text, cut to a few hundred characters."""

    id: str
    number: int
    attempt: int
    device: int
    finished_ms: int
    result: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A channel's counters at one moment of the last hour. There is about one sample every five seconds."""

    at_ms: int
    waiting: int
    capacity: int
    claimed: int
    done: int
    failed: int
    allotted: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Why the server's own calls wait, and since when (in ms, on its machine's clock)."""

    why: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class BodyCounts:
    """Large bodies that are stored apart from their items, as the server's last pass over them counted."""

    stored: int
    removed: int
    """How many bodies that no task needed any more were removed since the server's start."""
    missing: int
    """How many tasks and results have lost their body."""
    at_ms: int
    """When the counts last changed. 0 if there was no pass yet."""


@dataclass(frozen=True, slots=True)
class ClientCount:
    """How many clients Redis has, and how many it allows."""

    connected: int
    most: int


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
    bodies: BodyCounts = BodyCounts(0, 0, 0, 0)
    wait: Wait | None = None
    """Set if the server runs in this process and its calls wait. Redis may answer reads and refuse writes."""
    clients: ClientCount | None = None
    """Of the whole Redis, some seconds old. None if it does not tell."""

    @property
    def rate(self) -> float:
        """How many tasks all channels settle per second."""
        return sum(channel.rate for channel in self.channels)

    @property
    def balanced(self) -> bool:
        """Whether the counters of every channel are balanced."""
        return all(channel.balanced for channel in self.channels)

    @property
    def finished(self) -> bool:
        """Whether every generator is exhausted and no task is left to run."""
        return bool(self.channels) and all(c.exhausted and c.open == 0 for c in self.channels)

    @property
    def device_counts(self) -> tuple[int, ...]:
        """How many devices serve each channel. Offline devices do not count."""
        served = [device.channels for device in self.devices if device.state != "offline"]
        all_channels = served.count(None)
        some = Counter(channel for channels in served if channels is not None for channel in channels)
        return tuple(all_channels + some[channel.id] for channel in self.channels)

    def devices_of(self, channel: int) -> list[int]:
        """Return the numbers of the devices that serve the channel. Offline devices do not count."""
        return [d.id for d in self.devices if d.state != "offline" and d.serves(channel)]


def channel_names(served: Served) -> str:
    """Return `all channels`, or the channels' names. At most eight are named."""
    if served is None:
        return "all channels"
    return names_of("TaskChannel", served) if served else "no channel"


def names_of(kind: str, numbers: Sequence[int]) -> str:
    """Return names such as `Device0, Device2 and 3 more`. At most eight are named."""
    names = ", ".join(f"{kind}{number}" for number in numbers[:_MAX_NAMED])
    return names if len(numbers) <= _MAX_NAMED else f"{names} and {len(numbers) - _MAX_NAMED:,} more"
