"""Chooses which devices the grid shows and in which order: filter, toggles, sort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mutitask_tui.dashboard.model.device_trend import DeviceTrend, Fault
from mutitask_tui.dashboard.model.list_options import Column, ListOptions
from mutitask_tui.dashboard.model.text_filter import matcher
from mutitask_tui.server.snapshot import DeviceView
from worker_agent.protocol.keys import MAX_CHANNELS
from worker_agent.protocol.served_channels import Served

DETECTION_KEPT_MS = 15_000
"""How long the grid shows the answer to a detect."""

_STATES = {"offline": 0, "paused": 1, "running": 2}


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device and what is known of its last minute."""

    view: DeviceView
    fault: Fault = ""
    rate: float = 0.0
    new_errors: int = 0
    """Runs that failed in the last minute."""
    note: str = ""
    """The answer to a detect: the round trip, or that no answer came."""
    answered: bool = True
    """False if `note` says that no answer came."""
    other_job: bool = False
    """Whether it runs another version of the job than the server."""

    @property
    def id(self) -> int:
        """The device's number."""
        return self.view.id


SORTS: dict[str, Column] = {
    "device": ("number", lambda row: row.view.id, False),
    "state": ("state", lambda row: _STATES[row.view.state], False),
    "rate": ("rate", lambda row: row.rate, True),
    "errors": ("errors", lambda row: row.view.errors, True),
    "age": ("running time", lambda row: row.view.current_s if row.view.running else -1.0, True),
    "seen": ("last seen", lambda row: float("inf") if row.view.seen_s is None else row.view.seen_s, True),
    "done": ("done", lambda row: row.view.done, True),
    "running": ("tasks", lambda row: row.view.running, True),
    "channel": ("channel", lambda row: _channel_order(row.view.channels), False),
    "host": ("host", lambda row: row.view.host, False),
}
"""The columns by their names in the config file."""


@dataclass(frozen=True, slots=True)
class DeviceListOptions(ListOptions):
    """How the device grid filters and sorts."""

    SORTS: ClassVar[Mapping[str, Column]] = SORTS
    DEFAULT: ClassVar[str] = "device"

    sort: str = "device"
    hide_offline: bool = False

    @property
    def column(self) -> str:
        """The column without the direction. `failed` is the former name of `errors`."""
        column = self.sort.removeprefix("-")
        return "errors" if column == "failed" else column


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The devices of a snapshot that the grid shows."""

    rows: tuple[DeviceRow, ...]
    hidden: int
    """The number of devices that are not shown, for any reason."""
    hidden_offline: tuple[int, ...]
    """The devices that only the offline toggle hides."""


NO_DEVICES = DeviceList((), 0, ())


class Detections:
    """Keeps the answers to a detect for a while, so that the grid can show them."""

    def __init__(self) -> None:
        self._answers: dict[int, tuple[str, bool, int]] = {}

    def add(self, data: Mapping[str, Any], now_ms: int) -> None:
        """Take the answers from the data of a detect's outcome."""
        devices = data.get("devices")
        if not isinstance(devices, Mapping):
            return
        for number, answer in devices.items():
            ms = answer.get("ms") if isinstance(answer, Mapping) else None
            text = "no answer" if ms is None else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
            self._answers[int(number)] = (text, ms is not None, now_ms + DETECTION_KEPT_MS)

    def at(self, now_ms: int) -> dict[int, tuple[str, bool]]:
        """Return each device's text that is still to be shown, and whether the device answered."""
        self._answers = {number: answer for number, answer in self._answers.items() if answer[2] > now_ms}
        return {number: (text, answered) for number, (text, answered, _) in self._answers.items()}


def list_devices(
    devices: tuple[DeviceView, ...], options: DeviceListOptions, trend: DeviceTrend, notes: dict[int, tuple[str, bool]],
    before: DeviceList = NO_DEVICES, *, channels: int = 0, server_job: str = "",
) -> DeviceList:  # fmt: skip
    """Return the rows to show. `notes` are the answers to a detect, from `Detections.at`.

    `channels` is how many channels the namespace has. A filter for one of them finds the devices that serve all.
    `server_job` is the version of the server's job, or ''.

    A row of `before` that has not changed is used again, so that the grid recognises it by identity.
    """
    known = {row.view.id: row for row in before.rows}
    rows: list[DeviceRow] = []
    offline: list[int] = []
    fits = matcher(options.filter_text) if options.filter_text.strip() else None
    all_channels = f"all channels {_channel_words(range(channels))}" if fits is not None else ""
    for device in devices:
        fault = trend.fault(device)
        if options.faults_only and not fault:
            continue
        if fits is not None and not fits(_text(device, fault, all_channels).casefold()):
            continue
        if options.hide_offline and device.state == "offline":
            offline.append(device.id)
            continue
        note, answered = notes.get(device.id, ("", True))
        rate, new_errors = trend.rate(device.id), trend.new_errors(device.id)
        other_job = bool(device.job and server_job and device.job != server_job)
        row = known.get(device.id)
        if row is None or (
            row.view, row.fault, row.rate, row.new_errors, row.note, row.answered, row.other_job
        ) != (device, fault, rate, new_errors, note, answered, other_job):  # fmt: skip
            row = DeviceRow(device, fault, rate, new_errors, note, answered, other_job)
        rows.append(row)
    if options.sort != "device":
        rows.sort(key=SORTS[options.column][1], reverse=options.descending)
    return DeviceList(tuple(rows), len(devices) - len(rows), tuple(offline))


def _channel_order(served: Served) -> tuple[int, ...]:
    """Return the sort key of the served channels: all, then by number, then no channel."""
    if served is None:
        return (-1,)
    return tuple(sorted(served)) or (MAX_CHANNELS,)


def _channel_words(channels: Iterable[int]) -> str:
    return " ".join(f"taskchannel{channel}" for channel in channels)


def _text(device: DeviceView, fault: Fault, all_channels: str) -> str:
    channels = all_channels if device.channels is None else _channel_words(device.channels)
    job = f"job {device.job} {'job changed' if device.job_changed else ''}"
    return f"device{device.id} {device.state} {fault} {device.host} {channels} {job} {device.current}"
