"""Shows a snapshot without a dashboard: as JSON data, as lines, as one progress line, and as a closing summary."""

from __future__ import annotations

from typing import Any

from mutitask_tui.server.job_versions import SHORT, is_other
from mutitask_tui.server.snapshot import ChannelView, DeviceView, RunningTask, Snapshot, channel_names
from mutitask_tui.server.troubles import troubles, unserved
from worker_agent.protocol.printable import printable
from worker_agent.protocol.served_channels import served_numbers

LONG_TASK_S = 2.0
"""The progress of tasks that have run for less than this many seconds is not printed."""
MAX_TOLD_TASKS, MAX_NAMED_TASKS = 12, 3
"""With more than `MAX_TOLD_TASKS` such tasks, the counters tell more. At most `MAX_NAMED_TASKS` are named."""


def to_data(snapshot: Snapshot) -> dict[str, Any]:
    """Return the JSON data of `mutitask status --json`. Scripts depend on its keys."""
    server = snapshot.server
    return {
        "name": snapshot.name,
        "server": None
        if server is None
        else {
            "host": server.host,
            "pid": server.pid,
            "since": server.since_ms / 1000,
            "allotting": server.allotting,
            "job": server.job,
        },
        "channels": [_channel_data(channel) for channel in snapshot.channels],
        "devices": [_device_data(device, len(snapshot.channels)) for device in snapshot.devices],
        "bodies": {
            "stored": snapshot.bodies.stored,
            "removed": snapshot.bodies.removed,
            "missing": snapshot.bodies.missing,
        },
        "troubles": troubles(snapshot),
    }


def _channel_data(channel: ChannelView) -> dict[str, Any]:
    return {
        "id": channel.id,
        "capacity": channel.capacity,
        "waiting": channel.waiting,
        "claimed": channel.claimed,
        "delayed": channel.delayed,
        "done": channel.done,
        "failed": channel.failed,
        "errors": channel.errors,
        "deleted": channel.deleted,
        "allotted": channel.allotted,
        "balanced": channel.balanced,
        "allotting": channel.allotting,
        "exhausted": channel.exhausted,
        "paused": channel.paused,
        "foreign": channel.foreign,
        "halted": channel.halted,
        "results": channel.results,
        "rate_limit": channel.rate_limit,
    }


def _device_data(device: DeviceView, channels: int) -> dict[str, Any]:
    return {
        "id": device.id,
        "state": device.state,
        "wished": device.desired,
        "host": device.host,
        "pid": device.pid,
        "channel": device.channel,
        "channels": list(served_numbers(device.channels, channels)),
        "running": device.running,
        "tasks": [_task_data(task) for task in device.tasks],
        "done": device.done,
        "errors": device.errors,
        "failed": device.errors,  # An older name of the same number. Scripts depend on it.
        "seen_s": device.seen_s,
        "job": device.job,
        "job_changed": device.job_changed,
    }


def _task_data(task: RunningTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "channel": task.channel,
        "text": task.text,
        "seconds": task.seconds,
        "done": task.done,
        "total": task.total,
        "note": task.note,
        "left_s": task.left_s,
        "line": task.line,
    }


def to_lines(snapshot: Snapshot) -> list[str]:
    """Return the lines of `mutitask status`: the server, each channel, each device, each trouble."""
    server = snapshot.server
    unserved_ids = {channel.id for channel in unserved(snapshot)}
    lines = [
        f"namespace {snapshot.name} on {snapshot.redis}",
        f"server {server.host} pid {server.pid}" if server else "no server",
    ]
    bodies = snapshot.bodies
    if bodies.stored or bodies.removed or bodies.missing:
        lines.append(
            f"large bodies: {bodies.stored:,} stored, {bodies.removed:,} removed that no task needed, "
            f"{bodies.missing:,} missing"
        )
    for c in snapshot.channels:
        feed = "exhausted" if c.exhausted else c.halted or ("feeding" if c.allotting else "not feeding")
        counters = "counters balanced" if c.balanced else "COUNTERS NOT BALANCED"
        limited = f", limited {c.rate_limit}" if c.rate_limit else ""
        lines.append(
            f"TaskChannel{c.id}: {c.waiting}/{c.capacity} waiting, {c.claimed} claimed, {c.delayed} delayed, "
            f"{c.done} done, {c.failed} failed, {c.deleted} deleted of {c.allotted} allotted, {c.errors} errors; "
            f"{feed}{limited}; {counters}{'; no device serves it' if c.id in unserved_ids else ''}"
        )
    for d in snapshot.devices:
        seen = "never seen" if d.seen_s is None else f"seen {d.seen_s:.0f} s ago"
        desired = "" if d.state in (d.desired, "offline") else f" (asked: {d.desired})"
        serves = "" if d.state == "offline" else f"serves {channel_names(d.channels)}, "
        lines.append(
            f"Device{d.id}: {d.state}{desired}, {serves}{d.running} running, {d.done} done, {d.errors} errors, "
            f"{seen}{_job_text(d, snapshot)}"
        )
    return [*lines, *(f"! {text}" for text in troubles(snapshot))]


def _job_text(device: DeviceView, snapshot: Snapshot) -> str:
    """Return which version of the job the device runs if that is not the server's, and whether the file changed."""
    text = f", job {device.job[:SHORT]}" if is_other(device, snapshot) else ""
    return text + (", job changed" if device.job_changed else "")


def progress_line(snapshot: Snapshot) -> str:
    """Return the progress of the run in one line."""
    channels, devices = snapshot.channels, snapshot.devices
    done, failed = sum(c.done for c in channels), sum(c.failed for c in channels)
    waiting, capacity = sum(c.waiting for c in channels), sum(c.capacity for c in channels)
    claimed = sum(c.claimed for c in channels)
    running = sum(d.state == "running" for d in devices)
    errors = sum(c.errors for c in channels)
    retried = f" ({errors:,} errors)" if errors > failed else ""
    wrong = "".join(f"; {text}" for text in troubles(snapshot))
    halted = "".join(f"; TaskChannel{c.id} stopped: {c.halted}" for c in channels if c.halted)
    return (
        f"{done:,} done, {failed:,} failed{retried}, {waiting:,}/{capacity:,} waiting, {claimed:,} claimed, "
        f"{running} of {len(devices)} devices running, {snapshot.rate:,.0f} tasks/s{halted}{wrong}"
        f"{_unbalanced(snapshot)}"
    )


def tasks_line(snapshot: Snapshot) -> str:
    """Return one line about the tasks that tell their progress and take long. '' if there are none, or too many."""
    told = [
        (device.id, task)
        for device in snapshot.devices
        for task in device.tasks
        if task.done is not None and task.seconds >= LONG_TASK_S
    ]
    if not 0 < len(told) <= MAX_TOLD_TASKS:
        return ""
    told.sort(key=lambda pair: -pair[1].seconds)
    texts = [
        f"task {task.number} on Device{device} {_progress_text(task)}"
        for device, task in told[:MAX_NAMED_TASKS]
    ]
    more = len(told) - MAX_NAMED_TASKS
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _progress_text(task: RunningTask) -> str:
    share = "" if task.share is None else f"{task.share:.0%} "
    amount = f"({task.done:,g} of {task.total:,g})" if task.total is not None else f"({task.done:,g} done)"
    left = "" if task.left_s is None else f", about {task.left_s:,.0f} s left"
    return f"{share}{amount}{left}" + (f", {printable(task.note, 60)}" if task.note else "")


def finished_line(snapshot: Snapshot) -> str:
    """Return one constant line for a run that is done while its server still runs."""
    done, failed = sum(c.done for c in snapshot.channels), sum(c.failed for c in snapshot.channels)
    return (
        f"finished: {done:,} done, {failed:,} failed{_unbalanced(snapshot)}; Ctrl+C ends the server, "
        "--until-done does so by itself"
    )


def summary_line(snapshot: Snapshot, seconds: float, *, kept: bool = True) -> str:
    """Return the closing summary of a run.

    `seconds` is its duration. `kept` tells whether Redis keeps the remaining tasks after this process has ended.
    """
    channels = snapshot.channels
    done, failed = sum(c.done for c in channels), sum(c.failed for c in channels)
    deleted, allotted = sum(c.deleted for c in channels), sum(c.allotted for c in channels)
    remaining = sum(c.open for c in channels)
    parts = [f"{allotted:,} tasks allotted: {done:,} done, {failed:,} failed"]
    if deleted:
        parts.append(f"{deleted:,} deleted")
    if remaining:
        parts.append(f"{remaining:,} still to do" + (", kept in Redis" if kept else ""))
    rate = f", {(done + failed) / seconds:,.0f} tasks/s" if seconds > 0 and done + failed else ""
    counters = "counters balanced" if snapshot.balanced else "COUNTERS NOT BALANCED"
    return f"{', '.join(parts)}; {counters}; {seconds:.1f} s{rate}"


def _unbalanced(snapshot: Snapshot) -> str:
    return "" if snapshot.balanced else "; COUNTERS NOT BALANCED"
