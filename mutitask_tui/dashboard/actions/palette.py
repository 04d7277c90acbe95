"""The command palette's entries: every command of the registry with its key, and every order of the devices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from mutitask_tui.dashboard.actions.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.actions.keymap import shown_keys, view_name
from mutitask_tui.dashboard.model.device_order import SORTS
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.screens.frame import selection_of
from mutitask_tui.server.commands.registry import COMMANDS, Command

if TYPE_CHECKING:
    from mutitask_tui.dashboard.app import DashboardApp


class CommandProvider(Provider):
    """Finds commands by name, alias and summary; they act on what was selected when it opened."""

    async def startup(self) -> None:
        """Hold on to the selection."""
        self._selection = selection_of(self.screen)

    async def discover(self) -> Hits:
        """Every command, in the registry's order, then the view's own keys."""
        for command in COMMANDS:
            yield DiscoveryHit(
                Content(self._label(command)), self._run(command), text=command.name, help=command.summary
            )
        for binding in VIEW_BINDINGS:
            run = partial(self.app.run_action, binding.action)
            label = Content(self._view_label(binding))
            yield DiscoveryHit(label, run, text=binding.description, help=binding.tooltip)

    async def search(self, query: str) -> Hits:
        """The commands that match."""
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
        app = cast("DashboardApp", self.app)
        selection: Selection = self._selection
        return partial(app.begin, command, selection)

    def _label(self, command: Command) -> str:
        key = self._keys[command.name]
        return f"{command.usage}  ({shown_keys(key)})" if key else command.usage

    def _view_label(self, binding: Binding) -> str:
        return f"{binding.description}  ({shown_keys(self._keys[view_name(binding)])})"

    @property
    def _keys(self) -> Mapping[str, str]:
        return cast("DashboardApp", self.app).keys


class SortProvider(Provider):
    """Finds the columns that the devices can be sorted by, so that nobody has to go round all of them by key."""

    async def startup(self) -> None:
        """Know the key that turns an order round."""
        self._turn = shown_keys(cast("DashboardApp", self.app).keys["sort_reverse"])

    async def search(self, query: str) -> Hits:
        """The columns that match; `sort` matches them all."""
        matcher = self.matcher(query)
        for column, (name, _, from_largest) in SORTS.items():
            label = f"Sort devices by {name}"
            score = matcher.match(label)
            if score > 0:
                sort = f"-{column}" if from_largest else column
                run = partial(cast("DashboardApp", self.app).sort_devices, sort)
                yield Hit(
                    score,
                    matcher.highlight(label),
                    run,
                    text=label,
                    help=f"{self._turn} turns the order round",
                )
