"""The device grid: each device's state, what it runs, done, failed, and when it was last seen."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

from mutitask_tui.dashboard.formats import fit, seen_text, short_count, span
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.states import device_state, device_wish
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid, Piece
from mutitask_tui.server.snapshot import DeviceView

_ROOMY = 3
_WIDE = 37
_DENSE = 32
_SCREENFULS = 3
"""More roomy cells than so many screenfuls are shown as one line each."""


class DeviceGrid(CellGrid[DeviceView]):
    """Devices in cells of three lines, or of one line where there are very many."""

    MIN_CELL_WIDTH: ClassVar[int] = 26
    MAX_CELL_WIDTH: ClassVar[int] = 44

    dense: bool | None = None
    """One line for each device: True, False, or None to decide by their number."""

    @property
    def density(self) -> str:
        """The same as the config file has it."""
        return "auto" if self.dense is None else "dense" if self.dense else "roomy"

    @density.setter
    def density(self, word: str) -> None:
        self.dense = {"dense": True, "roomy": False}.get(word)

    def key_of(self, item: DeviceView) -> int:
        """A device's number."""
        return item.id

    def edge_of(self, item: DeviceView) -> str:
        """The tone of its state."""
        return device_state(item).tone

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Wide cells with room between them if all fit; else narrow ones; else one line each."""
        narrow = self.columns_of(self.MIN_CELL_WIDTH, width)
        wide = self.columns_of(_WIDE, width)
        rows = ceil(len(self.items) / narrow)
        too_many = rows * _ROOMY > max(height, _ROOMY) * _SCREENFULS
        if self.dense if self.dense is not None else too_many:
            return self.columns_of(_DENSE, width), 1, 0
        for columns, gap in ((wide, 1), (wide, 0), (narrow, 1)):
            if ceil(len(self.items) / columns) * (_ROOMY + gap) - gap <= height:
                return columns, _ROOMY, gap
        return narrow, _ROOMY, 0

    def cell_line(self, item: DeviceView, line: int, width: int) -> list[Piece]:
        """State, current task, counts: a line each; all in one where cells are one line high."""
        if self.cell_height == 1:
            return _dense_line(item, width)
        if line == 0:
            return _head(item, width)
        return _work(item, width) if line == 1 else _counts(item, width)

    def action_toggle_density(self) -> None:
        """Switch between roomy and dense cells."""
        self.dense = self.cell_height != 1
        self._arrange()
        if self.cursor in self._index:
            self._scroll_to_row(self._index[self.cursor] // self.columns)


def _head(device: DeviceView, width: int) -> list[Piece]:
    state, wish = device_state(device), device_wish(device)
    name = f" Device{device.id} "
    text = f"{state.text} → {wish}" if wish else state.text
    return [(name, "title"), (fit(text, width - len(name)), state.tone)]


def _work(device: DeviceView, width: int) -> list[Piece]:
    if device.state == "offline":
        return [(fit(f" {seen_text(device.seen_s)}", width), "faint")]
    if not device.running:
        word = " takes no tasks" if device.state == "paused" else " waits for tasks"
        return [(fit(word, width), "faint")]
    age = f" {span(device.current_s)}"
    more = f" +{device.running - 1}" if device.running > 1 else ""
    room = width - len(age) - len(more) - 1
    task = _tail(safe_str(device.current, 400), room)
    return [(f" {task}", "text"), (more, "calm"), (age, "faint")]


def _counts(device: DeviceView, width: int) -> list[Piece]:
    wide = width >= 33
    done = f" done {short_count(device.done)}" if wide else f" ✓ {short_count(device.done)}"
    failed = f"  failed {short_count(device.failed)}" if wide else f"  ✗ {short_count(device.failed)}"
    seen = "" if device.state == "offline" else seen_text(device.seen_s)
    room = width - len(done) - len(failed)
    return [
        (done, "faint"),
        (failed, "warn" if device.failed else "faint"),
        (fit(seen, room, right=True), "faint"),
    ]


def _dense_line(device: DeviceView, width: int) -> list[Piece]:
    state, wish = device_state(device), device_wish(device)
    name = f" {f'Device{device.id}':<10}"
    text = f"{state.glyph} →{wish}" if wish else state.text
    failed = f" ✗{short_count(device.failed)}" if device.failed else ""
    done = fit(short_count(device.done), width - len(name) - 10 - len(failed), right=True)
    return [(name, "title"), (fit(text, 10), state.tone), (done, "faint"), (failed, "warn")]


def _tail(text: str, width: int) -> str:
    """The text in `width` cells: of an address or a path the end tells more than the start."""
    if text.startswith(("/", "http", "'/", "'http")) and len(text) > width > 1:
        return fit("…" + text[-(width - 1) :], width)
    return fit(text, width)
