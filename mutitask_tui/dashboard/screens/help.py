"""The help screen: all keys and commands of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.host import Host
from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.keys.keymap import PALETTE, shown_keys, view_name
from mutitask_tui.dashboard.screens.dialog import Dialog
from mutitask_tui.server.commands.registry import COMMANDS, Scope

_TITLES: tuple[tuple[Scope, str], ...] = (
    ("device", "The selected device"),
    ("channel", "The selected channel"),
    ("fail", "The selected failed task (F lists them)"),
    ("task", "The selected running task (Enter on a device lists them)"),
    ("all", "Everything"),
    ("view", "The dashboard"),
)

_NAVIGATION = (
    ("Tab", "", "move to the next panel: channels, devices, events"),
    ("←↑↓→", "", "move the cursor; PgUp, PgDn, Home, End"),
    ("Enter", "", "open the device, the channel or the failed task"),
    ("Space", "", "mark the device or failed task; keys that act on one then act on all marked ones"),
    ("*", "", "mark all shown items, or unmark them"),
    ("Esc", "", "clear the marks, then the filter, then go back"),
    ("G", "", "on the failed tasks screen: group by error; Enter shows the tasks of a group"),
    ("[ ]", "", "on the failed tasks screen: previous and next channel"),
    ("^z", "", "suspend until fg; asks first if the server runs in this terminal"),
    ("^q", "", "leave; asks how"),
)


class HelpScreen(Dialog[None]):
    """Show a table of all keys. Lower-case letters act on one item, upper-case letters on all."""

    AUTO_FOCUS = "#table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1,q", "cancel", "Close", show=False),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        .dialog { width: 110; height: 90%; padding: 0 1; scrollbar-size-vertical: 1; }
        .title { text-style: bold; color: $text-primary; margin-top: 1; }
        .rows { layout: grid; grid-size: 3; grid-columns: 6 28 1fr; grid-rows: auto; height: auto; }
        .key { text-style: bold; color: $text-accent; }
        .summary { color: $text-muted; }
    }
    """

    def compose(self) -> ComposeResult:
        """Create one table for each scope. The last one also has the keys of the view."""
        keys = cast("Host", self.app).keys
        with VerticalScroll(classes="dialog", id="table") as box:
            box.border_title = " Keys and commands "
            box.border_subtitle = " Esc closes "
            yield Static(
                Content(
                    "Lower-case keys act on one item, upper-case keys on all. A key asks for missing arguments."
                ),
                classes="summary",
            )
            for scope, title in _TITLES:
                yield Static(Content(title), classes="title")
                yield from _rows(
                    (shown_keys(keys[c.name]) or ":", c.usage, _summary(c.summary, c.aliases, c.dangerous))
                    for c in COMMANDS
                    if c.scope == scope
                )
                if scope == "view":
                    yield from _rows(_view_rows(keys))

    def on_mount(self) -> None:
        """Focus the table, so that the arrow keys scroll it."""
        self.query_one("#table").focus()


def _view_rows(keys: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    for binding in VIEW_BINDINGS:
        yield shown_keys(keys[view_name(binding)]), binding.description.lower(), binding.tooltip
    yield from _NAVIGATION
    yield shown_keys(keys[PALETTE]), "", "open the command palette, which also has the themes"


def _summary(summary: str, aliases: tuple[str, ...], dangerous: bool) -> str:
    also = f" (also {', '.join(aliases)})" if aliases else ""
    return f"{summary}{also}{'; asks for confirmation' if dangerous else ''}"


def _rows(rows: Iterable[tuple[str, str, str]]) -> ComposeResult:
    cells: list[Static] = []
    for key, usage, summary in rows:
        cells.append(Static(Content(key), classes="key"))
        cells.append(Static(Content(usage)))
        cells.append(Static(Content(summary), classes="summary"))
    yield Container(*cells, classes="rows")
