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

    @property
    def balanced(self) -> bool:
        """Law 1: every task that was allotted is in exactly one place."""
        return self.allotted == (
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
    wished: Literal["running", "paused"]
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
    failed: int
    seen_s: float | None
    """Seconds since its agent last reported; None if there never was one."""
    since_ms: int
    version: str


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
