"""Builds the devices of a snapshot: from whole replies of `snapshot.lua`, and from replies with the changes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from mutitask_tui.server.snapshot import DeviceView, RunningTask
from mutitask_tui.server.snapshot_parser import decode_text, parse_version
from worker_agent.protocol import wire
from worker_agent.protocol.keys import MAX_CHANNELS
from worker_agent.protocol.served_channels import Served, parse_served, served_numbers

_MAX_DEVICE_DIGITS = 6
"""The most digits of the number of devices in the grid."""
_MAX_NUMBER_DIGITS = 18
"""The most digits of a device's number."""
_MAX_TASKS = 16
_ID_CHARACTERS = 20
_NOTE_CHARACTERS = 200
_MOST = 1e18
"""The highest number in a task's progress."""
_TIME_DIGITS = 13
"""A heartbeat starts with its time, in ms since the epoch, in this many digits."""
_BEAT_S = 1.0
"""How often an agent sends heartbeats if its report does not say so."""
_MAX_BEAT_S = 60.0

Hash = Mapping[bytes, bytes]

_DeviceState = tuple[bytes | None, bytes, bytes, float | None]
"""The parts of a device view: the live agent's actor, the desired state, the report, and the heartbeat's age."""


class _Device:
    """What is known of one device."""

    __slots__ = ("actor", "fields", "heard_ms", "lease_ends", "report", "state", "view")

    def __init__(self) -> None:
        self.actor: bytes | None = None
        """The actor on it, whose lease may have ended."""
        self.lease_ends = 0.0
        self.heard_ms: int | None = None
        self.report = b""
        self.fields: dict[str, Any] | None = None
        """The report, unpacked. None if that has not been needed yet."""
        self.state: _DeviceState | None = None
        self.view: DeviceView | None = None

    def hear(self, heartbeat: bytes) -> None:
        """Take in a heartbeat. A report that is the same as before is not unpacked again."""
        at = heartbeat[:_TIME_DIGITS]
        valid = len(heartbeat) > _TIME_DIGITS and at.isdigit()
        self.heard_ms = int(at) if valid else None
        report = heartbeat[_TIME_DIGITS:] if valid else b""
        if report != self.report:
            self.report, self.fields = report, None

    def unpacked(self) -> dict[str, Any]:
        """Return the fields of the report."""
        if self.fields is None:
            self.fields = _report_fields(self.report) if self.report else {}
        return self.fields

    def seen_s(self, now: int) -> float | None:
        """Return the heartbeat's age in whole seconds, and 0 until the next one is late. None without a heartbeat.

        Otherwise each view would change with each heartbeat.
        """
        if self.heard_ms is None:
            return None
        age = now - self.heard_ms
        if age < 2000:
            return 0.0
        beat_s = min(max(_BEAT_S, _seconds(self.unpacked().get("beat_s"))), _MAX_BEAT_S)
        return float(age // 1000) if age >= 1000 * (beat_s + 1) else 0.0


class DeviceViews:
    """The devices of the grid, and the devices beyond it that have an agent.

    If nothing about a device changed, its view is the same object as in the previous snapshot. Most snapshots bring
    nothing new about most devices, so a dashboard with thousands of devices can skip them at no cost.
    """

    def __init__(self) -> None:
        self._devices: dict[int, _Device] = {}
        """By number: the devices that are shown, in the order of their numbers, and others that have sent a report."""
        self._shown: list[int] = []
        self._grid = -1
        self._channels = MAX_CHANNELS
        self._desired: Hash = {}
        self._by_age: dict[int, None] = {}
        """The devices in the order of their last heartbeats, the oldest first."""
        self.live = 0
        """How many devices have a live agent."""

    def update(
        self, fleet: Hash, leases: Hash, agents: Hash, heartbeats: Hash, desired: Hash, now: int,
        channels: int = MAX_CHANNELS,
    ) -> tuple[DeviceView, ...]:  # fmt: skip
        """Return all devices at the time `now` (in ms), in the order of their numbers.

        `channels` is how many channels the namespace has. Devices serve no others.
        """
        reported = {int(n): heartbeat for n, heartbeat in heartbeats.items() if _is_number(n)}
        actors = {int(n): actor for n, actor in agents.items() if _is_number(n)}
        for number in self._devices.keys() | reported.keys() | actors.keys():
            device = self._devices.setdefault(number, _Device())
            device.hear(reported.get(number, b""))
            device.actor = actors.get(number)
            device.lease_ends = 0.0 if device.actor is None else float(leases.get(device.actor, 0))
        heard = {number: device.heard_ms or 0 for number, device in self._devices.items()}
        self._by_age = dict.fromkeys(sorted(heard, key=heard.__getitem__))
        self._grid = -1
        return self._views(fleet, desired, now, channels, ())

    def update_changed(
        self, fleet: Hash, lease_ms: int, agents: Hash, heartbeats: Hash, desired: Hash, now: int,
        channels: int = MAX_CHANNELS,
    ) -> tuple[DeviceView, ...]:  # fmt: skip
        """Return the same, from only the devices that sent a heartbeat since the last update.

        Each heartbeat has renewed its agent's lease for `lease_ms`.
        """
        changed = []
        for number_text, heartbeat in heartbeats.items():
            if not _is_number(number_text):
                continue
            number = int(number_text)
            device = self._devices.setdefault(number, _Device())
            device.hear(heartbeat)
            if device.actor is None and number >= self._grid:
                self._grid = -1  # A device beyond the grid appears.
            device.actor = agents.get(number_text)
            device.lease_ends = max(device.lease_ends, (device.heard_ms or 0) + lease_ms)
            self._by_age.pop(number, None)
            self._by_age[number] = None
            changed.append(number)
        return self._views(fleet, desired, now, channels, changed)

    def _views(
        self, fleet: Hash, desired: Hash, now: int, channels: int, changed: Iterable[int]
    ) -> tuple[DeviceView, ...]:
        devices = self._devices
        everything = channels != self._channels or desired != self._desired
        if channels != self._channels:
            for device in devices.values():
                device.state = None
        self._channels, self._desired = channels, dict(desired)
        grid = _grid_size(fleet.get(b"devices", b"0"))
        if grid != self._grid:
            self._grid, everything = grid, True
            for number in range(grid):
                if number not in devices:
                    devices[number] = _Device()
                    self._by_age[number] = None
        touched: Iterable[int] = devices if everything else {*changed, *self._late(now)}
        gone = False
        for number in touched:
            gone = self._refresh(number, now) or gone
        if everything or gone:
            self._shown = sorted(n for n, d in devices.items() if n < grid or (d.state and d.state[0]))
            self.live = sum(d.state is not None and d.state[0] is not None for d in devices.values())
        views = [devices[number].view for number in self._shown]
        return tuple(view for view in views if view is not None)

    def _late(self, now: int) -> list[int]:
        """Return the devices with an old heartbeat: its age may be shown, or the lease may have ended."""
        late = []
        for number in self._by_age:
            heard_ms = self._devices[number].heard_ms
            if heard_ms is not None and now - heard_ms < 2000:
                break
            late.append(number)
        return late

    def _refresh(self, number: int, now: int) -> bool:
        """Make a device's view anew if anything about it has changed. Return whether an agent came or went."""
        device = self._devices[number]
        actor = device.actor if device.lease_ends > now else None
        desired = self._desired.get(b"%d" % number) or self._desired.get(b"default", b"paused")
        seen_s = device.seen_s(now)
        state = (actor, desired, device.report, seen_s)
        before = device.state
        if before == state:
            return False
        device.state = state
        device.view = _device_view(number, actor, desired, device.unpacked(), seen_s, self._channels)
        return (before is None or before[0] is None) != (actor is None)


def shown_numbers(size: bytes, agents: Iterable[bytes]) -> list[int]:
    """Return the numbers of the devices that a snapshot shows. `size` is the grid's, `agents` are numbers as text."""
    return sorted({*range(_grid_size(size)), *(int(number) for number in agents if _is_number(number))})


def _grid_size(text: bytes) -> int:
    # Every agent may write this field, so an absurd number must not fill the memory.
    return int(text) if text.isdigit() and len(text) <= _MAX_DEVICE_DIGITS else 0


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS


def _device_view(
    number: int,
    actor: bytes | None,
    desired: bytes,
    fields: dict[str, Any],
    seen_s: float | None,
    channels: int,
) -> DeviceView:
    state: Literal["running", "paused", "offline"] = "offline"
    if actor is not None:
        state = "running" if fields.get("state") == "running" else "paused"
    online = actor is not None
    tasks = _running_tasks(fields.get("tasks")) if online else ()
    return DeviceView(
        id=number,
        state=state,
        desired="running" if desired == b"running" else "paused",
        actor=decode_text(actor),
        host=str(fields.get("host", "")),
        pid=_whole_number(fields.get("pid")),
        channel=_whole_number(fields.get("channel")),
        channels=_served(fields, channels),
        running=_whole_number(fields.get("running")) if online else 0,
        current=tasks[0].text if tasks else "",
        current_s=tasks[0].seconds if tasks else 0.0,
        tasks=tasks,
        done=_whole_number(fields.get("done")),
        errors=_whole_number(fields.get("errors", fields.get("failed"))),
        seen_s=seen_s,
        since_ms=_whole_number(fields.get("since_ms")),
        version=str(fields.get("version", "")),
        python=str(fields.get("python", "")),
        concurrency=_whole_number(fields.get("concurrency")),
        task_s=_seconds(fields.get("task_s")),
        timeout_s=_seconds(fields.get("timeout_s")),
        job=parse_version(fields.get("job")) if online else "",
        log_file=_text(fields.get("log_file")),
        job_changed=online and fields.get("job_changed") is True,
    )


def _report_fields(report: bytes) -> dict[str, Any]:
    try:
        unpacked = wire.unpack(report)
    except wire.Undecodable:
        return {}
    return unpacked if isinstance(unpacked, dict) else {}


def _running_tasks(reported: Any) -> tuple[RunningTask, ...]:
    """Return the running tasks that an agent reports. Entries of another form are left out."""
    entries = reported[:_MAX_TASKS] if isinstance(reported, list) else []
    return tuple(_running_task(entry) for entry in entries if isinstance(entry, dict))


def _running_task(fields: dict[str, Any]) -> RunningTask:
    return RunningTask(
        text=str(fields.get("text", "")),
        seconds=_seconds(fields.get("seconds")),
        id=str(fields.get("id", ""))[:_ID_CHARACTERS],
        channel=max(0, _whole_number(fields.get("channel"))),
        done=_amount(fields.get("done")),
        total=_amount(fields.get("total")),
        note=str(fields.get("note", ""))[:_NOTE_CHARACTERS],
        line=str(fields.get("line", ""))[:_NOTE_CHARACTERS],
    )


def _amount(value: Any) -> float | None:
    """Return a number of 0 or more that is finite, as `progress` takes it, or None."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        return None
    return value


def _served(fields: dict[str, Any], channels: int) -> Served:
    """Return the channels that an agent reports, or only its `channel` if there is no valid list. () without both."""
    reported, channel = fields.get("channels"), fields.get("channel")
    if isinstance(reported, str):
        served = _parsed_served(reported, channels)
        if served != _INVALID:
            return served
    return (channel,) if type(channel) is int and 0 <= channel < channels else ()


_INVALID: Served = (-1,)


@lru_cache(maxsize=1024)
def _parsed_served(text: str, channels: int) -> Served:
    """Return the channels that the text names, or `_INVALID`. Most devices report the same text again and again."""
    try:
        served = parse_served(text)
    except ValueError:
        return _INVALID
    return None if served is None else served_numbers(served, channels)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole_number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
