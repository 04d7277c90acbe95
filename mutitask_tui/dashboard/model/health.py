"""The health of a namespace in one sentence: whether the work proceeds, and if not, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from mutitask_tui.dashboard.formats import span
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.server.troubles import (
    all_failing,
    all_failing_text,
    near_client_limit,
    stuck_runs,
    unserved,
)
from worker_agent.protocol.text import plural


@dataclass(frozen=True, slots=True)
class Health:
    """The health sentence and how to show it."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """The number of devices in each state. `gone` counts the offline ones that have been online before."""

    running: int
    paused: int
    offline: int
    gone: int


def count_devices(snapshot: Snapshot) -> DeviceCounts:
    """Count the devices of a snapshot by state."""
    states = [device.state for device in snapshot.devices]
    gone = sum(d.state == "offline" and d.seen_s is not None for d in snapshot.devices)
    return DeviceCounts(states.count("running"), states.count("paused"), states.count("offline"), gone)


def assess_health(snapshot: Snapshot, trend: Trend) -> Health:
    """Return the health of a snapshot: the worst problem, judged with the trend of the last minute."""
    return (
        _broken(snapshot)
        or _degraded(snapshot, trend.new_fails())
        or _failing_runs(snapshot, trend)
        or _stuck_task(snapshot)
        or _paused_or_healthy(snapshot)
    )


def _broken(snapshot: Snapshot) -> Health | None:
    unbalanced = [f"TaskChannel{c.id}" for c in snapshot.channels if not c.balanced]
    if unbalanced:
        return Health(f"✗ COUNTERS NOT BALANCED in {_few(unbalanced)}", "bad")
    halted = [f"TaskChannel{c.id}" for c in snapshot.channels if c.halted]
    if halted:
        return Health(f"✗ feed halted in {_few(halted)}", "bad")
    if snapshot.server is None and not snapshot.finished:
        return Health("✗ no server: nothing is fed", "bad")
    return None


def _degraded(snapshot: Snapshot, new_fails: int) -> Health | None:
    devices = count_devices(snapshot)
    if snapshot.finished:
        failed = sum(c.failed for c in snapshot.channels)
        return Health(f"✓ finished, {failed:,} failed" if failed else "✓ finished", "good")
    if not devices.running and not devices.paused:
        return Health("✗ no device is there", "bad")
    if near := near_client_limit(snapshot):
        return Health(
            f"! Redis has {near.connected:,} of at most {near.most:,} clients: raise maxclients", "bad"
        )
    if missing := snapshot.bodies.missing:
        return Health(f"! bodies missing in Redis: {missing:,}", "bad")
    if devices.gone:
        return Health(f"! {plural(devices.gone, 'device')} offline", "bad")
    unserved_names = [f"TaskChannel{c.id}" for c in unserved(snapshot)]
    if unserved_names:
        return Health(f"! no device serves {_few(unserved_names)}", "bad")
    if new_fails:
        return Health(f"! {new_fails:,} failed in the last minute", "warn")
    return None


def _failing_runs(snapshot: Snapshot, trend: Trend) -> Health | None:
    """Report runs that fail and are retried while hardly a task is done, although no task has failed for good yet."""
    if vain := all_failing(snapshot):
        return Health(f"! {all_failing_text(vain)}", "bad")
    errors = done = 0
    for channel in snapshot.channels:
        recent = trend.new_runs(channel.id)
        if channel.open and recent[0] > recent[1]:
            errors, done = errors + recent[0], done + recent[1]
    return Health(f"! {errors:,} runs failed in the last minute, {done:,} done", "warn") if errors else None


def _stuck_task(snapshot: Snapshot) -> Health | None:
    stuck = stuck_runs(snapshot.devices)
    if not stuck:
        return None
    first = stuck[0]
    more = f", and {len(stuck) - 1} more" if len(stuck) > 1 else ""
    task = first.task if len(first.task) <= 20 else f"{first.task[:19]}…"
    return Health(f"! Device{first.device} runs one task for {span(first.seconds)}{more}: {task}", "warn")


def _paused_or_healthy(snapshot: Snapshot) -> Health:
    devices = count_devices(snapshot)
    if not devices.running:
        return Health("‖ every device is paused: S starts them", "warn")
    paused = [f"TaskChannel{c.id}" for c in snapshot.channels if c.paused]
    if paused:
        return Health(f"‖ {_few(paused)} paused", "warn")
    server = snapshot.server
    if server is not None and not server.allotting and not all(c.exhausted for c in snapshot.channels):
        return Health("‖ allotting is paused", "warn")
    return Health("● going well", "good")


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
