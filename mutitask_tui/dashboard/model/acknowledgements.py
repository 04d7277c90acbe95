"""Watches whether devices, channels and the server reach the state that a command asked for.

A command only writes a desired state. The observed state follows later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mutitask_tui.dashboard.formats import seen_text, span, took
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.server.commands.registry import Command
from mutitask_tui.server.snapshot import DeviceView, Snapshot
from worker_agent.protocol.served_channels import Served, parse_served, served_numbers
from worker_agent.protocol.text import plural
from worker_agent.protocol.unpatched import time

LATE_S = 5.0
"""Name a target that has not acknowledged a command after this many seconds."""
_FORGET_S = 120.0
"""Stop watching a command after this many seconds."""
_MAX_NAMED = 3

Key = tuple[str, int]
"""`device` and its number, `channel` and its number, or `server` and 0."""

_STATES = {"pause_one": "paused", "pause_all": "paused", "start_one": "running", "start_all": "running"}
_STOPS = ("stop_one", "stop_all")
_RESTARTS = ("restart_one", "restart_all")
_CHANNELS = {"pause_channel": True, "start_channel": False}
_FEEDS = {"pause_allot": False, "start_allot": True}


@dataclass(slots=True)
class _Pending:
    """A command that not every target has acknowledged yet."""

    line: str
    command: str
    sent_s: float
    targets: int
    """The number of targets at first."""
    waiting: set[Key]
    """The targets that have not acknowledged it."""
    actors: dict[int, str]
    """The actor of each device when the command was sent."""
    assigned: dict[int, Served]
    """The channels that each device was assigned."""
    confirmed: bool = False
    """Whether the command succeeded, so that acknowledgements can come."""
    reported_late: bool = False


class Acknowledgements:
    """Keeps the commands whose acknowledgements are outstanding."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pending: list[_Pending] = []

    @property
    def urgent(self) -> bool:
        """Whether an acknowledgement is likely soon, so that snapshots are worth polling faster."""
        now = self._now()
        return any(now - pending.sent_s < LATE_S for pending in self._pending)

    def expect(
        self, line: str, command: Command, targets: Sequence[Sequence[Any]], snapshot: Snapshot
    ) -> None:
        """Start to watch a command that was sent. `targets` holds the arguments of each call.

        A later command takes the place of an earlier one for the targets that both have.
        """
        keys = _keys(command.name, targets, snapshot)
        if not keys:
            return
        for pending in self._pending:
            pending.waiting -= keys
        actors = {device.id: device.actor for device in snapshot.devices}
        self._pending = [pending for pending in self._pending if pending.waiting]
        assigned = _assigned(targets) if command.name == "assign" else {}
        self._pending.append(_Pending(line, command.name, self._now(), len(keys), keys, actors, assigned))

    def confirm(self, line: str) -> bool:
        """Note that the command succeeded; return whether acknowledgements are expected."""
        found = [pending for pending in self._pending if pending.line == line]
        for pending in found:
            pending.confirmed = True
        return bool(found)

    def drop(self, line: str) -> None:
        """Stop watching a command that failed."""
        self._pending = [pending for pending in self._pending if pending.line != line]

    def update(self, snapshot: Snapshot) -> list[tuple[str, Tone]]:
        """Compare with a new snapshot; return messages about acknowledged commands and about late targets."""
        now = self._now()
        devices = {device.id: device for device in snapshot.devices}
        messages: list[tuple[str, Tone]] = []
        for pending in self._pending:
            if not pending.confirmed:
                continue
            pending.waiting = {
                key for key in pending.waiting if not _is_acknowledged(key, pending, snapshot, devices)
            }
            waited = now - pending.sent_s
            if not pending.waiting:
                by = f" by {plural(pending.targets, _noun(pending.command))}" if pending.targets > 1 else ""
                messages.append((f"{pending.line}: acknowledged{by} after {took(waited)}", "good"))
            elif waited >= LATE_S and not pending.reported_late:
                pending.reported_late = True
                messages.append((_late_text(pending, devices, waited), "warn"))
        self._pending = [p for p in self._pending if p.waiting and now - p.sent_s < _FORGET_S]
        return messages


def _keys(command: str, targets: Sequence[Sequence[Any]], snapshot: Snapshot) -> set[Key]:
    """Return the targets whose acknowledgement is expected."""
    if command in ("pause_all", "start_all", "stop_all", "restart_all"):
        return {("device", device.id) for device in snapshot.devices if device.state != "offline"}
    if command in ("pause_one", "start_one", "stop_one", "restart_one", "assign"):
        return {("device", int(values[0])) for values in targets if values}
    if command in _CHANNELS:
        return {("channel", int(values[0])) for values in targets if values}
    return {("server", 0)} if command in _FEEDS and snapshot.server is not None else set()


def _assigned(targets: Sequence[Sequence[Any]]) -> dict[int, Served]:
    return {int(values[0]): parse_served(values[1]) for values in targets}


def _is_acknowledged(key: Key, pending: _Pending, snapshot: Snapshot, devices: dict[int, DeviceView]) -> bool:
    """Return whether a target's observed state is the desired one. A target that is gone counts as well."""
    kind, number = key
    if kind == "server":
        return snapshot.server is None or snapshot.server.allotting == _FEEDS[pending.command]
    if kind == "channel":
        paused = _CHANNELS[pending.command]
        return all(channel.paused == paused for channel in snapshot.channels if channel.id == number)
    device = devices.get(number)
    if device is None:
        return True
    if pending.command == "assign":
        count = len(snapshot.channels)
        serves, assigned = (served_numbers(c, count) for c in (device.channels, pending.assigned[number]))
        return device.state != "offline" and serves == assigned
    if pending.command in _RESTARTS:
        return device.state != "offline" and device.actor != pending.actors.get(number)
    if pending.command in _STOPS:
        return device.state == "offline" or device.actor != pending.actors.get(number)
    return device.state == _STATES[pending.command] == device.desired


def _late_text(pending: _Pending, devices: dict[int, DeviceView], waited: float) -> str:
    """Name the targets that are late, and why as far as the snapshot shows."""
    late = sorted(pending.waiting)
    if pending.targets == 1:
        name, why = _name(late[0]), _why(late[0], devices)
        return f"{name} has not acknowledged {pending.line.split()[0]} for {round(waited)} s: it {why}"
    named = ", ".join(f"{_name(key)} {_why(key, devices)}" for key in late[:_MAX_NAMED])
    more = f" and {len(late) - _MAX_NAMED} more" if len(late) > _MAX_NAMED else ""
    count = f"{len(late)} of {plural(pending.targets, _noun(pending.command))}"
    have = "has" if len(late) == 1 else "have"
    return f"{pending.line}: {count} {have} not acknowledged it for {round(waited)} s: {named}{more}"


def _why(key: Key, devices: dict[int, DeviceView]) -> str:
    device = devices.get(key[1]) if key[0] == "device" else None
    if device is None:
        return "has not answered"
    if device.state == "offline":
        return "is offline"
    if device.running:
        return f"is still running its task ({span(device.current_s)})"
    return f"was last seen {seen_text(device.seen_s)}"


def _name(key: Key) -> str:
    kind, number = key
    return {"device": f"Device{number}", "channel": f"TaskChannel{number}"}.get(kind, "the server")


def _noun(command: str) -> str:
    return "channel" if command in _CHANNELS else "device"
