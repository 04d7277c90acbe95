"""The entries of the command palette: every command with its key, and every sort order of the devices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol, cast

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.keys.keymap import shown_keys, view_name
from mutitask_tui.dashboard.model.channel_order import SORTS as CHANNEL_SORTS
from mutitask_tui.dashboard.model.device_order import SORTS
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.screens.frame import selection_of
from mutitask_tui.server.commands.registry import COMMANDS, Command


class PaletteHost(Protocol):
    """What the palette needs from the app."""

    keys: Mapping[str, str]

    def start_command(self, command: Command, selection: Selection) -> None:
        """Start a command."""

    def sort_devices(self, sort: str) -> None:
        """Sort the devices by a column."""

    def sort_channels(self, sort: str) -> None:
        """Sort the channels by a column."""


class CommandProvider(Provider):
    """Finds commands by name, alias and summary. They act on the selection from when the palette was opened."""

    async def startup(self) -> None:
        """Keep the selection."""
        self._selection = selection_of(self.screen)

    async def discover(self) -> Hits:
        """Yield every command in the registry's order, then the view's own actions."""
        for command in COMMANDS:
            yield DiscoveryHit(
                Content(self._label(command)), self._run(command), text=command.name, help=command.summary
            )
        for binding in VIEW_BINDINGS:
            run = partial(self.app.run_action, binding.action)
            label = Content(self._view_label(binding))
            yield DiscoveryHit(label, run, text=binding.description, help=binding.tooltip)

    async def search(self, query: str) -> Hits:
        """Yield the commands and actions that match."""
        matcher = self.matcher(query)
        for command in COMMANDS:
            haystack = f"{self._label(command)} {' '.join(command.aliases)}".strip()
            score = max(matcher.match(haystack), matcher.match(command.summary) * 0.8)
            if score > 0:
                shown = matcher.highlight(self._label(command))
                yield Hit(score, shown, self._run(command), text=command.name, help=command.summary)
        for binding in VIEW_BINDINGS:
            label = self._view_label(binding)
            score = max(matcher.match(label), matcher.match(binding.tooltip) * 0.8)
            if score > 0:
                run = partial(self.app.run_action, binding.action)
                shown = matcher.highlight(label)
                yield Hit(score, shown, run, text=binding.description, help=binding.tooltip)

    def _run(self, command: Command) -> partial[None]:
        app = cast("PaletteHost", self.app)
        selection: Selection = self._selection
        return partial(app.start_command, command, selection)

    def _label(self, command: Command) -> str:
        key = self._keys[command.name]
        return f"{command.usage}  ({shown_keys(key)})" if key else command.usage

    def _view_label(self, binding: Binding) -> str:
        return f"{binding.description}  ({shown_keys(self._keys[view_name(binding)])})"

    @property
    def _keys(self) -> Mapping[str, str]:
        return cast("PaletteHost", self.app).keys


class SortProvider(Provider):
    """Finds the columns that the devices and the channels can be sorted by. The key steps through them one by one."""

    async def startup(self) -> None:
        """Look up the key that reverses an order."""
        self._reverse_key = shown_keys(cast("PaletteHost", self.app).keys["sort_reverse"])

    async def search(self, query: str) -> Hits:
        """Yield the columns that match. `sort` matches all of them."""
        matcher = self.matcher(query)
        host = cast("PaletteHost", self.app)
        lists = (("devices", SORTS, host.sort_devices), ("channels", CHANNEL_SORTS, host.sort_channels))
        for what, sorts, run in lists:
            for column, (name, _, from_largest) in sorts.items():
                if column == "auto":
                    continue
                label = f"Sort {what} by {name}"
                score = matcher.match(label)
                if score > 0:
                    sort = f"-{column}" if from_largest else column
                    yield Hit(
                        score,
                        matcher.highlight(label),
                        partial(run, sort),
                        text=label,
                        help=f"{self._reverse_key} reverses the order",
                    )
