"""The grid of devices with their state, current task, counters and rate."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from mutitask_tui.dashboard.formats import (
    Field,
    age,
    fill_bar,
    fit,
    fit_end,
    keep_fields,
    rate_text,
    seen_text,
    short_count,
    span,
)
from mutitask_tui.dashboard.model.device_order import DeviceRow
from mutitask_tui.dashboard.model.states import device_state, pending_state
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import DensityGrid, Piece
from mutitask_tui.server.job_versions import SHORT
from worker_agent.protocol.served_channels import Served, served_text

_ROOMY_LINES = 3
"""The height of a roomy cell."""
_WIDE_CELL = 37
"""The smallest width of a wide roomy cell."""
_DENSE_CELL = 32
"""The smallest width of a dense cell."""
_MAX_SCREENS = 3
"""If cells of three lines need more screens than this, each device takes one line."""


class DeviceGrid(DensityGrid[DeviceRow]):
    """Show each device in three lines (`roomy`), or in one line (`dense`) if there are very many."""

    MIN_CELL_WIDTH: ClassVar[int] = 26
    MAX_CELL_WIDTH: ClassVar[int] = 100

    column = "device"
    """The column that the devices are sorted by. A dense line shows the value of this column."""

    def key_of(self, item: DeviceRow) -> int:
        """Return the device number."""
        return item.view.id

    def edge_style(self, item: DeviceRow) -> str:
        """Return the tone of the device's state."""
        return device_state(item.view, item.rate).tone

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Use wide cells with gaps if all devices fit, then narrow cells, then one line for each device."""
        narrow = self.columns_for(self.MIN_CELL_WIDTH, width)
        wide = self.columns_for(_WIDE_CELL, width)
        rows = ceil(len(self.items) / narrow)
        too_many = rows * _ROOMY_LINES > max(height, _ROOMY_LINES) * _MAX_SCREENS
        if self.dense if self.dense is not None else too_many:
            return self.columns_for(_DENSE_CELL, width), 1, 0
        # Prefer wide cells, because payloads are long.
        fewest = min(wide, max(1, ceil(width / self.MAX_CELL_WIDTH)))
        choices = [(columns, 1) for columns in range(fewest, wide + 1)]
        for columns, gap in (*choices, (wide, 0), (narrow, 1)):
            if ceil(len(self.items) / columns) * (_ROOMY_LINES + gap) - gap <= height:
                return columns, _ROOMY_LINES, gap
        return narrow, _ROOMY_LINES, 0

    def show_column(self, column: str) -> None:
        """Set the column that the devices are sorted by."""
        if column != self.column:
            self.column = column
            self._update_layout()

    def cell_line(self, item: DeviceRow, line: int, width: int) -> list[Piece]:
        """Return the state, the current task or the counters; all of them if the cell has one line."""
        if self.cell_height == 1:
            return _dense_line(item, width, self.column)
        if line == 0:
            return _state_line(item, width)
        return _task_line(item, width) if line == 1 else _counters_line(item, width)

    def action_toggle_density(self) -> None:
        """Switch between roomy and dense cells."""
        self.dense = self.cell_height != 1
        self._update_layout()
        if self.cursor in self._index_by_key:
            self._scroll_to_row(self._index_by_key[self.cursor] // self.columns)


def _state_line(row: DeviceRow, width: int) -> list[Piece]:
    device = row.view
    state, desired = device_state(device, row.rate), pending_state(device)
    name = f" Device{device.id} "
    text = f"{state.text} → {desired}" if desired else state.text
    tone = state.tone
    if row.fault in ("slow", "failing"):
        text, tone = f"{text}, {row.fault}", "warn"
    note, note_tone = _note(row, width - len(name) - len(text))
    room = width - len(name) - len(note)
    if len(text) > room:
        text = f"{state.glyph} {row.fault}" if tone == "warn" and row.fault else state.glyph
    return [(name, "title"), (fit(text, room), tone), (note, note_tone)]


def _note(row: DeviceRow, room: int) -> Piece:
    """Return the answer to a detect, or else what is to be said about the job; nothing if there is no room for it."""
    if row.note:
        return f" {row.note}", "calm" if row.answered else "bad"
    if row.view.job_changed:
        return next((text for text in (" job changed", " changed") if len(text) <= room), ""), "warn"
    text = f" job {row.view.job[:SHORT]}" if row.other_job else ""
    return text if len(text) <= room else "", "faint"


def _task_line(row: DeviceRow, width: int) -> list[Piece]:
    device = row.view
    if device.state == "offline":
        return [(fit(f" {seen_text(device.seen_s)}", width), "faint")]
    if not device.running:
        word = " takes no tasks" if device.state == "paused" else " waits for tasks"
        return [(fit(word, width), "faint")]
    age = f" {span(device.current_s)}"
    more = f" +{device.running - 1}" if device.running > 1 else ""
    room = width - len(age) - len(more) - 1
    bar = _progress(row) if room >= _BAR_ROOM else []
    room -= sum(len(text) for text, _ in bar)
    task = fit_end(safe_str(device.current, 400), room)
    return [(f" {task}", "text"), *bar, (more, "calm"), (age, "warn" if row.fault == "slow" else "faint")]


_BAR_S = 2.0
"""A task that has run for less than this many seconds shows no bar."""
_BAR_WIDTH, _DENSE_BAR_WIDTH = 6, 4
_BAR_ROOM = 18
"""The smallest room for a bar and a part of the payload, in cells."""


def _progress(row: DeviceRow, width: int = _BAR_WIDTH) -> list[Piece]:
    """Return a small bar and the percentage of the longest-running task, if it tells its progress."""
    task = row.view.tasks[0] if row.view.tasks else None
    if task is None or task.share is None or task.seconds < _BAR_S:
        return []
    full, empty = fill_bar(task.share, 1, width)
    return [(f" {full}", "good"), (empty, "faint"), (f"{task.share:4.0%}", "good")]


def _counters_line(row: DeviceRow, width: int) -> list[Piece]:
    device, wide = row.view, width >= 33
    done = f" done {short_count(device.done)}" if wide else f" ✓ {short_count(device.done)}"
    errors = f"  errors {short_count(device.errors)}" if wide else f"  ✗ {short_count(device.errors)}"
    new_errors = f" +{short_count(row.new_errors)}" if row.new_errors else ""
    rate = f"  {_rate_or_seen(row)}"
    style = "warn" if _is_late(row) else "faint"
    fields: list[Field] = [
        (3, [(done, "faint")]),
        (4, [(errors, "warn" if device.errors else "faint"), (new_errors, "bad")]),
        (5 if _is_late(row) else 2, [(rate, style)]),
    ]
    kept = keep_fields(fields, width)
    room = width - sum(len(text) for text, _ in kept)
    if kept and kept[-1][0] == rate:
        kept[-1] = (" " * room + rate, style)
    return kept


_LATE_S = 3.0
"""An agent sends a heartbeat every second. After this many seconds without one it is late."""


def _is_late(row: DeviceRow) -> bool:
    seen = row.view.seen_s
    return row.view.state != "offline" and seen is not None and seen > _LATE_S


def _rate_or_seen(row: DeviceRow) -> str:
    """Return the rate, or when the device was last seen if it is late or has no rate."""
    if row.view.state == "offline":
        return ""
    return rate_text(row.rate) if row.rate and not _is_late(row) else seen_text(row.view.seen_s)


def _dense_line(row: DeviceRow, width: int, column: str) -> list[Piece]:
    device = row.view
    state, desired = device_state(device, row.rate), pending_state(device)
    name = f" {f'Device{device.id}':<10}"
    text, tone = (f"{state.glyph} →{desired}" if desired else state.text), state.tone
    if row.fault in ("slow", "failing"):
        text, tone = f"{state.glyph} {row.fault}", "warn"
    errors = f" ✗{short_count(device.errors)}" if device.errors else ""
    new_errors = f" +{short_count(row.new_errors)}" if row.new_errors else ""
    value, style = row.note, "calm" if row.answered else "bad"
    if not row.note:
        value, style = _sort_value(row, column), "faint"
        if device.job_changed:
            value, style = "job changed", "warn"
    room = width - len(name) - 10 - len(errors)
    new_errors = new_errors if len(new_errors) + len(value) < room else ""
    value = value if len(value) < room else ""
    room -= len(new_errors)
    bar = _progress(row, _DENSE_BAR_WIDTH)
    bar = bar if sum(len(text) for text, _ in bar) + len(value) < room else []
    room -= sum(len(text) for text, _ in bar)
    return [
        (name, "title"), (fit(text, 10), tone), *bar, (fit(value, room, right=True), style), (errors, "warn"),
        (new_errors, "bad"),
    ]  # fmt: skip


_CHANNELS_WIDTH = 12
"""A longer list of channels is shown as their number."""


def _channels_text(served: Served) -> str:
    """Return `ch all`, `ch 0,2` or `9 channels`; '' for no channel."""
    if served is None:
        return "ch all"
    text = f"ch {served_text(served)}" if served else ""
    return text if len(text) <= _CHANNELS_WIDTH else f"{len(served):,} channels"


def _sort_value(row: DeviceRow, column: str) -> str:
    """Return the one value of a dense line: the sort column, or the number of done tasks."""
    device = row.view
    if column == "rate":
        return rate_text(row.rate)
    if column == "age":
        return span(device.current_s) if device.running else "idle"
    if column == "seen":
        return "never" if device.seen_s is None else age(device.seen_s)
    if column == "running":
        return f"{device.running} run"
    if column == "channel":
        return _channels_text(device.channels)
    return safe_str(device.host, 40) if column == "host" else short_count(device.done)
