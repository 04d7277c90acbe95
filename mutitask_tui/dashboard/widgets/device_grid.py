"""The device grid: each device's state, what it runs, done, errors, and when it was last seen."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from mutitask_tui.dashboard.formats import (
    Field,
    age,
    fit,
    fit_end,
    keep_fields,
    rate_text,
    seen_text,
    short_count,
    span,
)
from mutitask_tui.dashboard.model.device_order import DeviceRow
from mutitask_tui.dashboard.model.states import device_state, device_wish
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece

_ROOMY = 3
_WIDE = 37
_DENSE = 32
_SCREENFULS = 3
"""More roomy cells than so many screenfuls are shown as one line each."""


class DeviceGrid(CellGrid[DeviceRow]):
    """Devices in cells of three lines, or of one line where there are very many."""

    MIN_CELL_WIDTH: ClassVar[int] = 26
    MAX_CELL_WIDTH: ClassVar[int] = 100

    dense: bool | None = None
    """One line for each device: True, False, or None to decide by their number."""

    @property
    def density(self) -> str:
        """The same as the config file has it."""
        return "auto" if self.dense is None else "dense" if self.dense else "roomy"

    @density.setter
    def density(self, word: str) -> None:
        self.dense = {"dense": True, "roomy": False}.get(word)

    column = "device"
    """The column that the devices are sorted by: the one number of a dense line is of that column."""

    def key_of(self, item: DeviceRow) -> int:
        """A device's number."""
        return item.view.id

    def edge_style(self, item: DeviceRow) -> str:
        """The tone of its state."""
        return device_state(item.view, item.rate).tone

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Wide cells with room between them if all fit; else narrow ones; else one line each."""
        narrow = self.columns_for(self.MIN_CELL_WIDTH, width)
        wide = self.columns_for(_WIDE, width)
        rows = ceil(len(self.items) / narrow)
        too_many = rows * _ROOMY > max(height, _ROOMY) * _SCREENFULS
        if self.dense if self.dense is not None else too_many:
            return self.columns_for(_DENSE, width), 1, 0
        # As wide as there is room for: payloads are long.
        fewest = min(wide, max(1, ceil(width / self.MAX_CELL_WIDTH)))
        choices = [(columns, 1) for columns in range(fewest, wide + 1)]
        for columns, gap in (*choices, (wide, 0), (narrow, 1)):
            if ceil(len(self.items) / columns) * (_ROOMY + gap) - gap <= height:
                return columns, _ROOMY, gap
        return narrow, _ROOMY, 0

    def show_column(self, column: str) -> None:
        """The devices are sorted by that column from now on."""
        if column != self.column:
            self.column = column
            self._update_layout()

    def cell_line(self, item: DeviceRow, line: int, width: int) -> list[Piece]:
        """State, current task, counts: a line each; all in one where cells are one line high."""
        if self.cell_height == 1:
            return _dense_line(item, width, self.column)
        if line == 0:
            return _head(item, width)
        return _work(item, width) if line == 1 else _counts(item, width)

    def action_toggle_density(self) -> None:
        """Switch between roomy and dense cells."""
        self.dense = self.cell_height != 1
        self._update_layout()
        if self.cursor in self._index_by_key:
            self._scroll_to_row(self._index_by_key[self.cursor] // self.columns)


def _head(row: DeviceRow, width: int) -> list[Piece]:
    device = row.view
    state, wish = device_state(device, row.rate), device_wish(device)
    name = f" Device{device.id} "
    text = f"{state.text} → {wish}" if wish else state.text
    tone = state.tone
    if row.fault in ("slow", "failing"):
        text, tone = f"{text}, {row.fault}", "warn"
    note = f" {row.note}" if row.note else ""
    room = width - len(name) - len(note)
    if len(text) > room:
        text = f"{state.glyph} {row.fault}" if tone == "warn" and row.fault else state.glyph
    return [(name, "title"), (fit(text, room), tone), (note, "calm" if row.answered else "bad")]


def _work(row: DeviceRow, width: int) -> list[Piece]:
    device = row.view
    if device.state == "offline":
        return [(fit(f" {seen_text(device.seen_s)}", width), "faint")]
    if not device.running:
        word = " takes no tasks" if device.state == "paused" else " waits for tasks"
        return [(fit(word, width), "faint")]
    age = f" {span(device.current_s)}"
    more = f" +{device.running - 1}" if device.running > 1 else ""
    room = width - len(age) - len(more) - 1
    task = fit_end(safe_str(device.current, 400), room)
    return [(f" {task}", "text"), (more, "calm"), (age, "warn" if row.fault == "slow" else "faint")]


def _counts(row: DeviceRow, width: int) -> list[Piece]:
    device, wide = row.view, width >= 33
    done = f" done {short_count(device.done)}" if wide else f" ✓ {short_count(device.done)}"
    errors = f"  errors {short_count(device.errors)}" if wide else f"  ✗ {short_count(device.errors)}"
    grown = f" +{short_count(row.grown)}" if row.grown else ""
    pace = f"  {_pace(row)}"
    look = "warn" if _late(row) else "faint"
    fields: list[Field] = [
        (3, [(done, "faint")]),
        (4, [(errors, "warn" if device.errors else "faint"), (grown, "bad")]),
        (5 if _late(row) else 2, [(pace, look)]),
    ]
    kept = keep_fields(fields, width)
    room = width - sum(len(text) for text, _ in kept)
    if kept and kept[-1][0] == pace:
        kept[-1] = (" " * room + pace, look)
    return kept


_LATE_S = 3.0
"""An agent reports every second: one that was silent for so long is late."""


def _late(row: DeviceRow) -> bool:
    seen = row.view.seen_s
    return row.view.state != "offline" and seen is not None and seen > _LATE_S


def _pace(row: DeviceRow) -> str:
    """How fast it is; when it was seen, if that is what matters."""
    if row.view.state == "offline":
        return ""
    return rate_text(row.rate) if row.rate and not _late(row) else seen_text(row.view.seen_s)


def _dense_line(row: DeviceRow, width: int, column: str) -> list[Piece]:
    device = row.view
    state, wish = device_state(device, row.rate), device_wish(device)
    name = f" {f'Device{device.id}':<10}"
    text, tone = (f"{state.glyph} →{wish}" if wish else state.text), state.tone
    if row.fault in ("slow", "failing"):
        text, tone = f"{state.glyph} {row.fault}", "warn"
    errors = f" ✗{short_count(device.errors)}" if device.errors else ""
    grown = f" +{short_count(row.grown)}" if row.grown else ""
    if row.note:
        value, look = row.note, "calm" if row.answered else "bad"
    else:
        value, look = _value(row, column), "faint"
    room = width - len(name) - 10 - len(errors)
    grown = grown if len(grown) + len(value) < room else ""
    value = value if len(value) < room else ""
    room -= len(grown)
    return [
        (name, "title"), (fit(text, 10), tone), (fit(value, room, right=True), look), (errors, "warn"),
        (grown, "bad"),
    ]  # fmt: skip


def _value(row: DeviceRow, column: str) -> str:
    """What a dense line has room for: the column that is sorted by, or else how many are done."""
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
        return f"ch {device.channel}" if device.seen_s is not None else ""
    return safe_str(device.host, 40) if column == "host" else short_count(device.done)
