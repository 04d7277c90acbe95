"""The one sentence that a person looks for first: is it going, and if not, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from mutitask_tui.dashboard.formats import span
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.server.troubles import fruitless, fruitless_text, stuck_runs, unserved
from worker_agent.protocol.words import plural


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the whole stands, worst thing first."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """How many devices are in each state; `gone` are the offline ones that were seen before."""

    running: int
    paused: int
    offline: int
    gone: int


def count_devices(snapshot: Snapshot) -> DeviceCounts:
    """The devices of a snapshot by state."""
    states = [device.state for device in snapshot.devices]
    gone = sum(d.state == "offline" and d.seen_s is not None for d in snapshot.devices)
    return DeviceCounts(states.count("running"), states.count("paused"), states.count("offline"), gone)


def judge(snapshot: Snapshot, trend: Trend) -> Verdict:
    """The verdict on a snapshot, given what the last minute was like."""
    return (
        _broken(snapshot)
        or _worrying(snapshot, trend.new_fails())
        or _fruitless(snapshot, trend)
        or _stuck(snapshot)
        or _waiting(snapshot)
    )


def _broken(snapshot: Snapshot) -> Verdict | None:
    wrong = [f"TaskChannel{c.id}" for c in snapshot.channels if not c.balanced]
    if wrong:
        return Verdict(f"✗ BOOKS DO NOT BALANCE in {_few(wrong)}", "bad")
    halted = [f"TaskChannel{c.id}" for c in snapshot.channels if c.halted]
    if halted:
        return Verdict(f"✗ feed halted in {_few(halted)}", "bad")
    if snapshot.server is None and not snapshot.finished:
        return Verdict("✗ no server: nothing is fed", "bad")
    return None


def _worrying(snapshot: Snapshot, new_fails: int) -> Verdict | None:
    devices = count_devices(snapshot)
    if snapshot.finished:
        failed = sum(c.failed for c in snapshot.channels)
        return Verdict(f"✓ finished, {failed:,} failed" if failed else "✓ finished", "good")
    if not devices.running and not devices.paused:
        return Verdict("✗ no device is there", "bad")
    if devices.gone:
        return Verdict(f"! {plural(devices.gone, 'device')} offline", "bad")
    alone = [f"TaskChannel{c.id}" for c in unserved(snapshot)]
    if alone:
        return Verdict(f"! no device serves {_few(alone)}", "bad")
    if new_fails:
        return Verdict(f"! {new_fails:,} failed in the last minute", "warn")
    return None


def _fruitless(snapshot: Snapshot, trend: Trend) -> Verdict | None:
    """Runs fail and are tried again, and hardly one succeeds: nothing has failed for good yet."""
    if vain := fruitless(snapshot):
        return Verdict(f"! {fruitless_text(vain)}", "bad")
    errors = done = 0
    for channel in snapshot.channels:
        recent = trend.new_runs(channel.id)
        if channel.open and recent[0] > recent[1]:
            errors, done = errors + recent[0], done + recent[1]
    return Verdict(f"! {errors:,} runs failed in the last minute, {done:,} done", "warn") if errors else None


def _stuck(snapshot: Snapshot) -> Verdict | None:
    stuck = stuck_runs(snapshot.devices)
    if not stuck:
        return None
    first = stuck[0]
    more = f", and {len(stuck) - 1} more" if len(stuck) > 1 else ""
    task = first.task if len(first.task) <= 20 else f"{first.task[:19]}…"
    return Verdict(f"! Device{first.device} runs one task for {span(first.seconds)}{more}: {task}", "warn")


def _waiting(snapshot: Snapshot) -> Verdict:
    devices = count_devices(snapshot)
    if not devices.running:
        return Verdict("‖ every device is paused: S starts them", "warn")
    paused = [f"TaskChannel{c.id}" for c in snapshot.channels if c.paused]
    if paused:
        return Verdict(f"‖ {_few(paused)} paused", "warn")
    server = snapshot.server
    if server is not None and not server.allotting and not all(c.exhausted for c in snapshot.channels):
        return Verdict("‖ allotting is paused", "warn")
    return Verdict("● going well", "good")


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
