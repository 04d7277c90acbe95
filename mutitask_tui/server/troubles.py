"""What is wrong with a run that goes on: one sentence each, for the dashboard, the headless lines and `status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mutitask_tui.server.snapshot import ChannelView, DeviceView, Snapshot
from worker_agent.protocol.printable import printable
from worker_agent.protocol.words import plural

GRACE_MS = 3000
"""A server that has just come leaves agents so long to come too."""

STUCK_S = 60.0
STUCK_FACTOR = 20.0
STUCK_UNKNOWN_S = 3600.0
"""A task is stuck if it runs for `STUCK_FACTOR` times what tasks of its channel take and no less than `STUCK_S`;
where no task has ended yet, for `STUCK_UNKNOWN_S`."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class StuckRun:
    """A task that runs far longer than the others of its channel."""

    device: int
    task: str
    """Its payload in short: untrusted text."""
    seconds: float
    usual_s: float
    """What tasks take there, in seconds; 0 where nobody knows."""

    @property
    def text(self) -> str:
        """`Device3 has run one task for 4 min (others take 0.2 s): 'x'`."""
        others = f" (others take {_seconds(self.usual_s)})" if self.usual_s else ""
        return f"Device{self.device} has run one task for {_about(self.seconds)}{others}: {printable(self.task, 60)}"


def stuck_runs(devices: Sequence[DeviceView]) -> list[StuckRun]:
    """The longest-running task of each device, where it is stuck; the oldest first.

    A task that has a time limit (`--timeout`) is ended by that, and not named before.
    """
    means: dict[int, list[float]] = {}
    for device in devices:
        if device.task_s > 0:
            means.setdefault(device.channel, []).append(device.task_s)
    stuck = []
    for device in devices:
        if device.state == "offline" or not device.running or device.current_s < STUCK_S:
            continue
        if device.timeout_s and device.current_s <= device.timeout_s + STUCK_S:
            continue
        usual = max(device.task_s, median(means.get(device.channel, [0.0])))
        if device.current_s > (STUCK_FACTOR * usual if usual else STUCK_UNKNOWN_S):
            stuck.append(StuckRun(device.id, device.current, device.current_s, usual))
    return sorted(stuck, key=lambda run: -run.seconds)


def unserved(snapshot: Snapshot) -> list[ChannelView]:
    """The channels with tasks that wait and no device that serves them."""
    server = snapshot.server
    if server is not None and snapshot.now_ms - server.since_ms < GRACE_MS:
        return []
    served = {device.channel for device in snapshot.devices if device.state != "offline"}
    return [c for c in snapshot.channels if c.waiting + c.delayed and not c.paused and c.id not in served]


def fruitless(snapshot: Snapshot) -> list[ChannelView]:
    """The channels with runs that failed and no task that is done."""
    return [c for c in snapshot.channels if c.errors and not c.done and c.open]


def unserved_text(channels: Sequence[ChannelView]) -> str:
    """The sentence on channels that nobody serves."""
    tasks = sum(c.waiting + c.delayed for c in channels)
    tasks_wait = f"{plural(tasks, 'task')} {'waits' if tasks == 1 else 'wait'}"
    return (
        f"no device serves {_names(channels)} ({tasks_wait}): start an agent with --channel {channels[0].id}"
    )


def fruitless_text(channels: Sequence[ChannelView]) -> str:
    """The sentence on channels in which every run fails."""
    runs = plural(sum(c.errors for c in channels), "run")
    return f"{runs} failed in {_names(channels)}, none done"


def troubles(snapshot: Snapshot) -> list[str]:
    """Every sentence that is true of the snapshot, the worst first."""
    alone, vain, stuck = unserved(snapshot), fruitless(snapshot), stuck_runs(snapshot.devices)
    sentences = [unserved_text(alone)] if alone else []
    sentences += [fruitless_text(vain)] if vain else []
    sentences += [run.text for run in stuck[:_NAMED]]
    if len(stuck) > _NAMED:
        sentences.append(f"{len(stuck) - _NAMED:,} more devices run one task for long")
    return sentences


def _names(channels: Sequence[ChannelView]) -> str:
    names = ", ".join(f"TaskChannel{c.id}" for c in channels[:_NAMED])
    return names if len(channels) <= _NAMED else f"{names} and {len(channels) - _NAMED:,} more"


def _about(seconds: float) -> str:
    """Coarse, so that a line that is repeated every two seconds does not change each time."""
    if seconds < 120:
        return "a minute"
    return f"{int(seconds // 60)} min" if seconds < 7200 else f"{int(seconds // 3600)} h"


def _seconds(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"
