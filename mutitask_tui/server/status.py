"""A snapshot as the plain data of `mutitask status --json`, and as lines."""

from __future__ import annotations

from typing import Any

from mutitask_tui.server.snapshot import ChannelView, DeviceView, Snapshot
from mutitask_tui.server.troubles import troubles, unserved


def to_data(snapshot: Snapshot) -> dict[str, Any]:
    """The JSON shape that scripts rest on: name, server, channels, devices."""
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
        },
        "channels": [_channel(channel) for channel in snapshot.channels],
        "devices": [_device(device) for device in snapshot.devices],
        "troubles": troubles(snapshot),
    }


def _channel(channel: ChannelView) -> dict[str, Any]:
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
    }


def _device(device: DeviceView) -> dict[str, Any]:
    return {
        "id": device.id,
        "state": device.state,
        "wished": device.desired,
        "host": device.host,
        "pid": device.pid,
        "channel": device.channel,
        "running": device.running,
        "done": device.done,
        "errors": device.errors,
        "failed": device.errors,  # The name that it had before: scripts rest on it.
        "seen_s": device.seen_s,
    }


def to_lines(snapshot: Snapshot) -> list[str]:
    """The same for a person, a line each."""
    server = snapshot.server
    alone = {channel.id for channel in unserved(snapshot)}
    lines = [
        f"namespace {snapshot.name} on {snapshot.redis}",
        f"server {server.host} pid {server.pid}" if server else "no server",
    ]
    for c in snapshot.channels:
        feed = "exhausted" if c.exhausted else c.halted or ("feeding" if c.allotting else "not feeding")
        books = "books balance" if c.balanced else "BOOKS DO NOT BALANCE"
        lines.append(
            f"TaskChannel{c.id}: {c.waiting}/{c.capacity} waiting, {c.claimed} claimed, {c.delayed} delayed, "
            f"{c.done} done, {c.failed} failed, {c.deleted} deleted of {c.allotted} allotted, {c.errors} errors; "
            f"{feed}; {books}{'; no device serves it' if c.id in alone else ''}"
        )
    for d in snapshot.devices:
        seen = "never seen" if d.seen_s is None else f"seen {d.seen_s:.0f} s ago"
        desired = "" if d.state in (d.desired, "offline") else f" (asked: {d.desired})"
        lines.append(
            f"Device{d.id}: {d.state}{desired}, {d.running} running, {d.done} done, {d.errors} errors, {seen}"
        )
    return [*lines, *(f"! {text}" for text in troubles(snapshot))]
