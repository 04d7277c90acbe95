"""The footer: the keys that fit, as whole entries; `?` tells the rest.

Textual's Footer mounts a widget for each key anew at every change of focus: with our 35 keys that took
200 ms of CPU for opening a dialog and as much for closing it. One drawn line takes 1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.actions.bindings import key_text

if TYPE_CHECKING:
    from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class Entry:
    """One label and its keys: as shown, and as Textual names them."""

    shown: tuple[str, ...]
    keys: tuple[str, ...]
    label: str

    @property
    def width(self) -> int:
        """The cells that it takes, with the space before it."""
        return 2 + sum(cell_len(key) for key in self.shown) + 1 + cell_len(self.label)

    def key_at(self, cell: int) -> str:
        """The key that a click on that cell of the entry means: its own, or the first one on the label."""
        place = 2
        for shown, key in zip(self.shown, self.keys, strict=True):
            if place <= cell < place + cell_len(shown):
                return key
            place += cell_len(shown)
        return self.keys[0]


class KeyBar(Widget):
    """Shows the screen's bindings on one line and presses their keys when clicked."""

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
        """All entries, most used first, whether they fit or not."""

    def on_mount(self) -> None:
        """Follow the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def on_click(self, event: events.Click) -> None:
        """Press the key under the pointer."""
        place = 0
        for entry in self._fitting():
            if place <= event.x < place + entry.width:
                self.app.simulate_key(entry.key_at(event.x - place))
                return
            place += entry.width
        if event.x >= self.size.width - self._palette_width:
            self.app.simulate_key(self.app.COMMAND_PALETTE_BINDING)

    def render(self) -> Content:
        """The entries that fit, and the palette's key at the right edge."""
        fitting = self._fitting()
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

    def _fitting(self) -> list[Entry]:
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
        entries = self._gather(self._in_place(shown))
        if entries != self.entries:
            self.entries = entries
            self.refresh()

    def _in_place(self, bindings: list[Binding]) -> list[Binding]:
        """Textual puts bindings whose keys were moved last: bring them back to where they stood."""
        places: dict[str, int] = {}
        for node in (self.screen, self.app):
            for _, binding in node._bindings:
                places.setdefault(binding.id or "", len(places))
        return sorted(bindings, key=lambda binding: places.get(binding.id, -1) if binding.id else -1)

    def _gather(self, bindings: list[Binding]) -> tuple[Entry, ...]:
        """One entry for each family of keys, and for each key without a family."""
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
