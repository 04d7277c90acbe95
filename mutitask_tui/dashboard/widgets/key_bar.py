"""The footer: one line with as many keys as fit. The help screen (`?`) lists all keys.

Textual's Footer mounts a new widget for each key at every change of focus. With the 35 keys of this dashboard
that took 200 ms of CPU to open a dialog and as much to close it. Drawing one line takes 1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.keys.bindings import key_text

if TYPE_CHECKING:
    from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class Entry:
    """A label with its keys."""

    shown: tuple[str, ...]
    """The keys as displayed."""
    keys: tuple[str, ...]
    """The same keys as Textual names them."""
    label: str

    @property
    def width(self) -> int:
        """The width of the entry in cells, with the space before it."""
        return 2 + sum(cell_len(key) for key in self.shown) + 1 + cell_len(self.label)

    def key_at(self, cell: int) -> str:
        """Return the key for a click at `cell` of the entry. A click on the label means the first key."""
        position = 2
        for shown, key in zip(self.shown, self.keys, strict=True):
            if position <= cell < position + cell_len(shown):
                return key
            position += cell_len(shown)
        return self.keys[0]


class KeyBar(Widget):
    """Show the active bindings of the screen on one line. A click on a key presses it."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    KeyBar {
        dock: bottom;
        height: 1;
        background: $footer-background;
        color: $footer-foreground;
        pointer: pointer;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries: tuple[Entry, ...] = ()
        """All entries, the most used first. Not all of them may fit."""

    def on_mount(self) -> None:
        """Subscribe to changes of the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def on_click(self, event: events.Click) -> None:
        """Press the clicked key."""
        position = 0
        for entry in self._visible_entries():
            if position <= event.x < position + entry.width:
                self.app.simulate_key(entry.key_at(event.x - position))
                return
            position += entry.width
        if event.x >= self.size.width - self._palette_width:
            self.app.simulate_key(self.app.COMMAND_PALETTE_BINDING)

    def render(self) -> Content:
        """Return the entries that fit, and the key of the command palette at the right edge."""
        fitting = self._visible_entries()
        parts: list[tuple[str, str]] = []
        for entry in fitting:
            parts.append((f"  {''.join(entry.shown)}", "bold $footer-key-foreground"))
            parts.append((f" {entry.label}", ""))
        room = self.size.width - sum(entry.width for entry in fitting) - self._palette_width
        parts.append((" " * max(0, room + 1), ""))
        parts += [(self._palette_key, "bold $footer-key-foreground"), (" Palette ", "")]
        return Content.assemble(*parts)

    @property
    def _palette_width(self) -> int:
        return cell_len(self._palette_key) + len("Palette") + 3

    @property
    def _palette_key(self) -> str:
        return key_text(self.app.COMMAND_PALETTE_BINDING)

    def _visible_entries(self) -> list[Entry]:
        room = self.size.width - self._palette_width
        fitting = []
        for entry in self.entries:
            room -= entry.width
            if room < 0:
                break
            fitting.append(entry)
        return fitting

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if not self.is_attached or screen is not self.screen:
            return
        shown = [
            binding for _, binding, enabled, _ in screen.active_bindings.values() if binding.show and enabled
        ]
        entries = self._group_entries(self._in_declared_order(shown))
        if entries != self.entries:
            self.entries = entries
            self.refresh()

    def _in_declared_order(self, bindings: list[Binding]) -> list[Binding]:
        """Sort bindings in the order of their declaration. Textual moves remapped bindings to the end."""
        order: dict[str, int] = {}
        for node in (self.screen, self.app):
            for _, binding in node._bindings:
                order.setdefault(binding.id or "", len(order))
        return sorted(bindings, key=lambda binding: order.get(binding.id, -1) if binding.id else -1)

    def _group_entries(self, bindings: list[Binding]) -> tuple[Entry, ...]:
        """Return one entry for each binding group, and one for each binding without a group."""
        entries: list[Entry] = []
        groups: list[Binding.Group | None] = []
        actions: set[str] = set()
        for binding in bindings:
            if binding.action in actions:
                continue
            actions.add(binding.action)
            shown = self.app.get_key_display(binding)
            if binding.group is not None and groups and groups[-1] == binding.group:
                last = entries.pop()
                entries.append(Entry((*last.shown, shown), (*last.keys, binding.key), last.label))
                continue
            groups.append(binding.group)
            entries.append(Entry((shown,), (binding.key,), binding.description))
        return tuple(entries)
