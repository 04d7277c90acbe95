"""The line at the bottom: `:` takes commands, with completion and history; `/` filters as one types."""

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
"""The values that a kind of parameter can take now, as text: `device` and `channel` know some."""


def completions(line: str, ids: Ids) -> list[str]:
    """The lines that `line` can become, one word further."""
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


def shared_start(lines: Sequence[str]) -> str:
    """What all the lines begin with."""
    low, high = min(lines), max(lines)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:same]


def _find(name: str) -> Command | None:
    try:
        return find(name)
    except CommandError:
        return None


class CommandSuggester(Suggester):
    """Suggests the first completion, as ghost text."""

    def __init__(self, ids: Ids) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._ids = ids

    async def get_suggestion(self, value: str) -> str | None:
        """The first line that `value` can become."""
        return next(iter(completions(value, self._ids)), None) if value else None


class CommandLine(Input):
    """Takes one command line; gone again after Enter or Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Run"),
        Binding("escape", "close", "Close"),
        Binding("tab", "complete", "Complete"),
        Binding("up", "older", "Older"),
        Binding("down", "newer", "Newer", show=False),
    ]

    class Closed(Message):
        """The line was left without a command."""

    class Ambiguous(Message):
        """Tab met several completions."""

        def __init__(self, words: list[str]) -> None:
            super().__init__()
            self.words = words

    def __init__(self, ids: Ids, history: list[str], *, id: str | None = None) -> None:
        super().__init__(
            placeholder="a command, such as pause_one 0   (Tab completes, ↑ brings back)",
            suggester=CommandSuggester(ids),
            select_on_focus=False,
            compact=True,
            id=id,
        )
        self._ids = ids
        self._history = history
        self._place = len(history)

    def open(self) -> None:
        """Start with an empty line."""
        self.value = ""
        self._place = len(self._history)

    def remember(self, line: str) -> None:
        """Keep a line for the up key; the same twice running is kept once."""
        if line and self._history[-1:] != [line]:
            self._history.append(line)
        self._place = len(self._history)

    def action_close(self) -> None:
        """Leave the line."""
        self.post_message(self.Closed())

    def action_complete(self) -> None:
        """Type what all completions share; name them where they part."""
        found = completions(self.value, self._ids)
        if not found:
            return
        shared = shared_start(found)
        if len(found) == 1:
            command = _find(shared)
            shared += " " if command is not None and command.params else ""
        elif shared == self.value:
            self.post_message(self.Ambiguous([line.rpartition(" ")[2] for line in found]))
        self.value = shared
        self.cursor_position = len(shared)

    def action_older(self) -> None:
        """The line before."""
        self._recall(self._place - 1)

    def action_newer(self) -> None:
        """The line after; past the last one an empty line."""
        self._recall(self._place + 1)

    def on_blur(self, event: events.Blur) -> None:
        """A click elsewhere leaves the line."""
        if self.screen.is_current:
            self.post_message(self.Closed())

    def _recall(self, place: int) -> None:
        if 0 <= place <= len(self._history):
            self._place = place
            self.value = self._history[place] if place < len(self._history) else ""
            self.cursor_position = len(self.value)


class FilterLine(Input):
    """Narrows a list down as one types; Enter or a click elsewhere keeps the filter, Escape drops it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep"),
        Binding("escape", "drop", "Drop the filter"),
    ]

    class Dropped(Message):
        """The filter is to be taken away."""

    class Left(Message):
        """The line was left; the filter stays."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            placeholder="filter: words that must occur, !word that must not",
            select_on_focus=False,
            compact=True,
            id=id,
        )

    def on_blur(self, event: events.Blur) -> None:
        """A click elsewhere leaves the line."""
        if self.screen.is_current:
            self.post_message(self.Left())

    def action_drop(self) -> None:
        """Take the filter away."""
        self.post_message(self.Dropped())


def matcher(wanted: str) -> Callable[[str], bool]:
    """Whether a text, which is in lower case already, holds every word of `wanted` and none of its `!words`."""
    words = wanted.casefold().split()
    unwanted = [word[1:] for word in words if word.startswith("!") and len(word) > 1]
    words = [word for word in words if not word.startswith("!")]

    def fits(text: str) -> bool:
        return all(word in text for word in words) and not any(word in text for word in unwanted)

    return fits


def matches(text: str, wanted: str) -> bool:
    """The same for any text; case does not matter."""
    return matcher(wanted)(text.casefold())
