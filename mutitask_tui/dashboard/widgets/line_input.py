"""The input lines at the bottom: `:` for commands, `/` for filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from mutitask_tui.server.commands.registry import COMMANDS, Command, CommandError, find

Ids = Callable[[str], Sequence[str]]
"""Returns the possible values for a kind of parameter. Only `device`, `channel` and `channels` have any."""


def completions(line: str, ids: Ids) -> list[str]:
    """Return the lines that complete the last word of `line`."""
    *before, word = line.split(" ") if line else [""]
    if not before:
        names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
        return sorted(name for name in [*names, "help"] if name.startswith(word))
    command = _find(before[0])
    if command is None or len(before) > len(command.params):
        return []
    kind = command.params[len(before) - 1].kind
    head = " ".join(before)
    return [f"{head} {value}" for value in ids(kind) if value.startswith(word)]


def common_prefix(lines: Sequence[str]) -> str:
    """Return the longest common prefix of the lines."""
    low, high = min(lines), max(lines)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:same]


def _find(name: str) -> Command | None:
    try:
        return find(name)
    except CommandError:
        return None


class CommandSuggester(Suggester):
    """Suggest the first completion as ghost text."""

    def __init__(self, ids: Ids) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._ids = ids

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first completion of `value`, or None."""
        return next(iter(completions(value, self._ids)), None) if value else None


class CommandLine(Input):
    """Input for one command, with completion and history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Run"),
        Binding("escape", "close", "Close"),
        Binding("tab", "complete", "Complete"),
        Binding("up", "older", "Older"),
        Binding("down", "newer", "Newer", show=False),
    ]

    class Closed(Message):
        """Posted when the line is closed without a command."""

    class Ambiguous(Message):
        """Posted when Tab finds several completions. `words` are the possible last words."""

        def __init__(self, words: list[str]) -> None:
            super().__init__()
            self.words = words

    def __init__(self, ids: Ids, history: list[str], *, id: str | None = None) -> None:
        super().__init__(
            placeholder="a command, such as pause_one 0   (Tab completes, ↑ recalls)",
            suggester=CommandSuggester(ids),
            select_on_focus=False,
            compact=True,
            id=id,
        )
        self._ids = ids
        self._history = history
        self._history_index = len(history)

    def open(self) -> None:
        """Clear the line for a new command."""
        self.value = ""
        self._history_index = len(self._history)

    def remember(self, line: str) -> None:
        """Add a line to the history, unless it equals the last line."""
        if line and self._history[-1:] != [line]:
            self._history.append(line)
        self._history_index = len(self._history)

    def action_close(self) -> None:
        """Close the line without a command."""
        self.post_message(self.Closed())

    def action_complete(self) -> None:
        """Insert the common prefix of all completions, or post `Ambiguous` if it adds nothing."""
        found = completions(self.value, self._ids)
        if not found:
            return
        prefix = common_prefix(found)
        if len(found) == 1:
            command = _find(prefix)
            prefix += " " if command is not None and command.params else ""
        elif prefix == self.value:
            self.post_message(self.Ambiguous([line.rpartition(" ")[2] for line in found]))
        self.value = prefix
        self.cursor_position = len(prefix)

    def action_older(self) -> None:
        """Show the previous line of the history."""
        self._recall(self._history_index - 1)

    def action_newer(self) -> None:
        """Show the next line of the history, or an empty line after the last."""
        self._recall(self._history_index + 1)

    def on_blur(self, event: events.Blur) -> None:
        """Close the line when the user clicks elsewhere."""
        if self.screen.is_current:
            self.post_message(self.Closed())

    def _recall(self, index: int) -> None:
        if 0 <= index <= len(self._history):
            self._history_index = index
            self.value = self._history[index] if index < len(self._history) else ""
            self.cursor_position = len(self.value)


class FilterLine(Input):
    """Input for a filter. Enter or a click elsewhere keeps the filter, Escape removes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep"),
        Binding("escape", "clear_filter", "Remove the filter"),
    ]

    class Cleared(Message):
        """Posted when the user removes the filter."""

    class Left(Message):
        """Posted when the user leaves the line and keeps the filter."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            placeholder="filter: words that must occur, !word that must not",
            select_on_focus=False,
            compact=True,
            id=id,
        )

    def on_blur(self, event: events.Blur) -> None:
        """Leave the line when the user clicks elsewhere. The filter stays."""
        if self.screen.is_current:
            self.post_message(self.Left())

    def action_clear_filter(self) -> None:
        """Remove the filter."""
        self.post_message(self.Cleared())
