"""Which devices the grid shows, and in which order: the filter, the toggles, the sort. No widget knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mutitask_tui.dashboard.model.device_trend import DeviceTrend, Fault
from mutitask_tui.dashboard.widgets.line_input import matcher
from mutitask_tui.server.snapshot import DeviceView

_STATES = {"offline": 0, "paused": 1, "running": 2}


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device and what its last minute tells."""

    view: DeviceView
    fault: Fault = ""
    rate: float = 0.0
    grown: int = 0
    """Its runs that failed in the last minute."""
    note: str = ""
    """What a person just asked of it: a round trip, or that it did not answer."""
    answered: bool = True
    """Whether `note` is good news."""

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
    "channel": ("channel", lambda row: row.view.channel, False),
    "host": ("host", lambda row: row.view.host, False),
}
"""The columns by their names in the config file: what to call each, its key, whether the largest are looked
for first."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a person wants to see the devices."""

    wanted: str = ""
    """The filter's words."""
    sort: str = "device"
    """A column of `SORTS`; with `-` before it from the largest down."""
    faults_only: bool = False
    hide_offline: bool = False

    @property
    def column(self) -> str:
        """The column alone."""
        return column_of(self.sort)

    @property
    def down(self) -> bool:
        """Whether from the largest down."""
        return self.sort.startswith("-")

    @property
    def sort_text(self) -> str:
        """`by rate ↓`, or '' for the plain order."""
        if self.sort == "device":
            return ""
        return f"by {SORTS[self.column][0]} {'↓' if self.down else '↑'}"

    @property
    def narrow(self) -> str:
        """What narrows the devices down, in words, or ''."""
        words = [f"match /{self.wanted}"] if self.wanted.strip() else []
        words += ["faults only"] if self.faults_only else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the grid shows of a snapshot's devices."""

    rows: tuple[DeviceRow, ...]
    hidden: int
    """How many devices are not shown, whatever hides them."""
    hidden_offline: tuple[int, ...]
    """Those that only the offline toggle hides."""


NOTHING = Listing((), 0, ())


def column_of(sort: str) -> str:
    """The column that is sorted by; `failed` is what `errors` was called before."""
    column = sort.removeprefix("-")
    return "errors" if column == "failed" else column


def next_sort(sort: str) -> str:
    """The next column, in the direction in which one looks for something there."""
    columns = list(SORTS)
    column = columns[(columns.index(column_of(sort)) + 1) % len(columns)]
    return f"-{column}" if SORTS[column][2] else column


def reversed_sort(sort: str) -> str:
    """The same column the other way round."""
    return sort[1:] if sort.startswith("-") else f"-{sort}"


def list_devices(
    devices: tuple[DeviceView, ...], look: Look, trend: DeviceTrend, notes: dict[int, tuple[str, bool]],
    before: Listing = NOTHING,
) -> Listing:  # fmt: skip
    """The rows to show. `notes` are short-lived words on devices, and whether they are good news.

    A row of `before` of which nothing changed is used again, so that the grid can tell at no cost.
    """
    known = {row.view.id: row for row in before.rows}
    rows: list[DeviceRow] = []
    offline: list[int] = []
    fits = matcher(look.wanted) if look.wanted.strip() else None
    for device in devices:
        fault = trend.fault(device)
        if look.faults_only and not fault:
            continue
        if fits is not None and not fits(_text(device, fault).casefold()):
            continue
        if look.hide_offline and device.state == "offline":
            offline.append(device.id)
            continue
        note, answered = notes.get(device.id, ("", True))
        rate, grown = trend.rate(device.id), trend.grown(device.id)
        row = known.get(device.id)
        if row is None or (row.view, row.fault, row.rate, row.grown, row.note, row.answered) != (
            device, fault, rate, grown, note, answered
        ):  # fmt: skip
            row = DeviceRow(device, fault, rate, grown, note, answered)
        rows.append(row)
    if look.sort != "device":
        rows.sort(key=SORTS[look.column][1], reverse=look.down)
    return Listing(tuple(rows), len(devices) - len(rows), tuple(offline))


def next_fault(rows: tuple[DeviceRow, ...], cursor: int | None, step: int) -> DeviceRow | None:
    """The next row, or the one before, with something wrong; round the end, the one at the cursor last."""
    place = next((i for i, row in enumerate(rows) if row.id == cursor), -1 if step > 0 else 0)
    for away in range(1, len(rows) + 1):
        row = rows[(place + step * away) % len(rows)]
        if row.fault:
            return row
    return None


def _text(device: DeviceView, fault: Fault) -> str:
    words = (f"device{device.id}", device.state, fault, device.host, f"taskchannel{device.channel}")
    return f"{' '.join(words)} {device.current}"
