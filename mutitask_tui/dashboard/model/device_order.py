"""Chooses which devices the grid shows and in which order: filter, toggles, sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mutitask_tui.dashboard.model.device_trend import DeviceTrend, Fault
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

    @property
    def id(self) -> int:
        """The device's number."""
        return self.view.id


SORTS: dict[str, tuple[str, Callable[[DeviceRow], Any], bool]] = {
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
"""The columns by their names in the config file: the name on the screen, the sort key, whether the largest values
come first at first."""


@dataclass(frozen=True, slots=True)
class DeviceListOptions:
    """How the device grid filters and sorts."""

    filter_text: str = ""
    sort: str = "device"
    """A column of `SORTS`; with `-` before it in descending order."""
    faults_only: bool = False
    hide_offline: bool = False

    @property
    def column(self) -> str:
        """The column without the direction."""
        return column_of(self.sort)

    @property
    def descending(self) -> bool:
        """Whether the largest value comes first."""
        return self.sort.startswith("-")

    @property
    def sort_text(self) -> str:
        """`by rate ↓`; '' for the order by number."""
        if self.sort == "device":
            return ""
        return f"by {SORTS[self.column][0]} {'↓' if self.descending else '↑'}"

    @property
    def filter_summary(self) -> str:
        """The active filters in words; '' if there are none."""
        words = [f"match /{self.filter_text}"] if self.filter_text.strip() else []
        words += ["faults only"] if self.faults_only else []
        return ", ".join(words)


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


def column_of(sort: str) -> str:
    """Return the column of a sort order. `failed` is the former name of `errors`."""
    column = sort.removeprefix("-")
    return "errors" if column == "failed" else column


def next_sort(sort: str) -> str:
    """Return the next column with its default direction."""
    columns = list(SORTS)
    column = columns[(columns.index(column_of(sort)) + 1) % len(columns)]
    return f"-{column}" if SORTS[column][2] else column


def reversed_sort(sort: str) -> str:
    """Return the same column in the opposite direction."""
    return sort[1:] if sort.startswith("-") else f"-{sort}"


def list_devices(
    devices: tuple[DeviceView, ...], options: DeviceListOptions, trend: DeviceTrend, notes: dict[int, tuple[str, bool]],
    before: DeviceList = NO_DEVICES, *, channels: int = 0,
) -> DeviceList:  # fmt: skip
    """Return the rows to show. `notes` are the answers to a detect, from `Detections.at`.

    `channels` is how many channels the namespace has. A filter for one of them finds the devices that serve all.

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
        row = known.get(device.id)
        if row is None or (row.view, row.fault, row.rate, row.new_errors, row.note, row.answered) != (
            device, fault, rate, new_errors, note, answered
        ):  # fmt: skip
            row = DeviceRow(device, fault, rate, new_errors, note, answered)
        rows.append(row)
    if options.sort != "device":
        rows.sort(key=SORTS[options.column][1], reverse=options.descending)
    return DeviceList(tuple(rows), len(devices) - len(rows), tuple(offline))


def next_fault(rows: tuple[DeviceRow, ...], cursor: int | None, step: int) -> DeviceRow | None:
    """Return the next row with a fault, or the previous one if `step` is -1.

    The search wraps around the end and looks at the row under the cursor last.
    """
    place = next((i for i, row in enumerate(rows) if row.id == cursor), -1 if step > 0 else 0)
    for distance in range(1, len(rows) + 1):
        row = rows[(place + step * distance) % len(rows)]
        if row.fault:
            return row
    return None


def _channel_order(served: Served) -> tuple[int, ...]:
    """Return the sort key of the served channels: all, then by number, then no channel."""
    if served is None:
        return (-1,)
    return tuple(sorted(served)) or (MAX_CHANNELS,)


def _channel_words(channels: Iterable[int]) -> str:
    return " ".join(f"taskchannel{channel}" for channel in channels)


def _text(device: DeviceView, fault: Fault, all_channels: str) -> str:
    channels = all_channels if device.channels is None else _channel_words(device.channels)
    return f"device{device.id} {device.state} {fault} {device.host} {channels} {device.current}"
