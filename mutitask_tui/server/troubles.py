"""Finds what is wrong with a run that continues: one sentence each, for the dashboard, headless lines and `status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from mutitask_tui.server.job_versions import version_texts
from mutitask_tui.server.snapshot import ChannelView, ClientCount, DeviceView, Snapshot
from worker_agent.protocol.printable import printable
from worker_agent.protocol.text import plural

GRACE_MS = 3000
"""How long after the server's start no channel is called unserved, in ms: agents need time to start."""

STUCK_S = 60.0
STUCK_FACTOR = 20.0
STUCK_UNKNOWN_S = 3600.0
"""A task is stuck if it runs `STUCK_FACTOR` times as long as other tasks of its channels, and at least `STUCK_S`.

If no task has ended yet, it is stuck after `STUCK_UNKNOWN_S`. All times are in seconds.
"""

NEAR_LIMIT = 0.9
"""From this part of Redis's limit of clients on, the limit is called near."""

_Channels = frozenset[int] | None
"""The channels that a device serves. None for all."""

_NAMED = 3
"""How many channels or stuck tasks are named. The others are counted."""


@dataclass(frozen=True, slots=True)
class StuckRun:
    """A task that runs far longer than the others of the channels that its device serves."""

    device: int
    task: str
    """The payload in short. Untrusted text."""
    seconds: float
    usual_s: float
    """How long tasks of these channels usually take, in seconds. 0 if it is unknown."""

    @property
    def text(self) -> str:
        """The sentence, such as `Device3 has run one task for 4 min (others take 0.2 s): 'x'`."""
        others = f" (others take {_seconds(self.usual_s)})" if self.usual_s else ""
        return f"Device{self.device} has run one task for {_about(self.seconds)}{others}: {printable(self.task, 60)}"


def stuck_runs(devices: Sequence[DeviceView]) -> list[StuckRun]:
    """Return each device's longest-running task if it is stuck, the oldest first.

    A time limit (`--timeout`) ends a task by itself, so such a task is stuck only after that limit.
    """
    means: dict[_Channels, list[float]] = {}
    for device in devices:
        if device.task_s > 0:
            means.setdefault(device.channel_set, []).append(device.task_s)
    medians = {channels: median(found) for channels, found in means.items()}
    stuck = []
    for device in devices:
        if device.state == "offline" or not device.running or device.current_s < STUCK_S:
            continue
        if device.timeout_s and device.current_s <= device.timeout_s + STUCK_S:
            continue
        usual = max(device.task_s, _usual_s(device.channel_set, medians))
        if device.current_s > (STUCK_FACTOR * usual if usual else STUCK_UNKNOWN_S):
            stuck.append(StuckRun(device.id, device.current, device.current_s, usual))
    return sorted(stuck, key=lambda run: -run.seconds)


def _usual_s(channels: _Channels, medians: Mapping[_Channels, float]) -> float:
    """Return how long the slowest kind of task of these channels usually takes, in seconds. 0 if it is unknown.

    A report does not tell the channel of a task. So the devices that serve only some of these channels count too.
    """
    return max((s for other, s in medians.items() if _is_part(other, channels)), default=0.0)


def _is_part(some: _Channels, channels: _Channels) -> bool:
    return channels is None or (some is not None and some <= channels)


def unserved(snapshot: Snapshot) -> list[ChannelView]:
    """Return the channels that have waiting tasks and no device that serves them."""
    server = snapshot.server
    if server is not None and snapshot.now_ms - server.since_ms < GRACE_MS:
        return []
    return [
        channel
        for channel, devices in zip(snapshot.channels, snapshot.device_counts, strict=True)
        if channel.waiting + channel.delayed and not channel.paused and not devices
    ]


def all_failing(snapshot: Snapshot) -> list[ChannelView]:
    """Return the channels in which runs failed, no task is done, and tasks remain."""
    return [c for c in snapshot.channels if c.errors and not c.done and c.open]


def unserved_text(channels: Sequence[ChannelView]) -> str:
    """Return the sentence about channels that no device serves."""
    tasks = sum(c.waiting + c.delayed for c in channels)
    tasks_wait = f"{plural(tasks, 'task')} {'waits' if tasks == 1 else 'wait'}"
    return (
        f"no device serves {_names(channels)} ({tasks_wait}): "
        f"start an agent with --channel {channels[0].id}, or assign it to a device"
    )


def near_client_limit(snapshot: Snapshot) -> ClientCount | None:
    """Return the number of Redis's clients if that is near the limit."""
    clients = snapshot.clients
    return clients if clients is not None and clients.connected >= NEAR_LIMIT * clients.most else None


def client_limit_text(clients: ClientCount) -> str:
    """Return the sentence about Redis's limit of clients."""
    return (
        f"Redis has {clients.connected:,} of at most {clients.most:,} clients and refuses any above that: "
        "raise its maxclients and the limit of open files of its process (ulimit -n), or stop some agents"
    )


def all_failing_text(channels: Sequence[ChannelView]) -> str:
    """Return the sentence about channels in which every run fails."""
    runs = plural(sum(c.errors for c in channels), "run")
    return f"{runs} failed in {_names(channels)}, none done"


def missing_bodies_text(count: int) -> str:
    """Return the sentence about tasks and results whose bodies are gone."""
    has = "task or result has" if count == 1 else "tasks or results have"
    return (
        f"{count:,} {has} lost the body in Redis: such a task fails with that reason; "
        "give it a new body with edit_fail_task, and check that no program deletes keys and that Redis keeps its data"
    )


def troubles(snapshot: Snapshot) -> list[str]:
    """Return one sentence for each trouble, the worst first."""
    not_served, failing, stuck = unserved(snapshot), all_failing(snapshot), stuck_runs(snapshot.devices)
    sentences = [missing_bodies_text(snapshot.bodies.missing)] if snapshot.bodies.missing else []
    sentences += [client_limit_text(near)] if (near := near_client_limit(snapshot)) else []
    sentences += [unserved_text(not_served)] if not_served else []
    sentences += [all_failing_text(failing)] if failing else []
    sentences += version_texts(snapshot)
    sentences += [run.text for run in stuck[:_NAMED]]
    if len(stuck) > _NAMED:
        sentences.append(f"{len(stuck) - _NAMED:,} more devices have run one task for a long time")
    return sentences


def _names(channels: Sequence[ChannelView]) -> str:
    names = ", ".join(f"TaskChannel{c.id}" for c in channels[:_NAMED])
    return names if len(channels) <= _NAMED else f"{names} and {len(channels) - _NAMED:,} more"


def _about(seconds: float) -> str:
    """Return a coarse duration, so that a line printed every two seconds does not change each time."""
    if seconds < 120:
        return "a minute"
    return f"{int(seconds // 60)} min" if seconds < 7200 else f"{int(seconds // 3600)} h"


def _seconds(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:,.0f} s"
