"""Every key and command, read from the registry."""

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
    ("all", "Everything"),
    ("view", "The dashboard"),
)

_MOVING = (
    ("Tab", "", "to the next panel: channels, devices, events"),
    ("←↑↓→", "", "move the cursor; PgUp, PgDn, Home, End"),
    ("Enter", "", "details of the device, the channel, the failed task"),
    ("Space", "", "mark the device or the failed task: keys that act on one act on all that are marked"),
    ("*", "", "mark all that is shown, or none of it"),
    ("Esc", "", "let go of the marks, then of the filter, then back"),
    ("G", "", "among the failed tasks: in groups of the same error; Enter shows a group's tasks"),
    ("[ ]", "", "among the failed tasks: one channel after the other"),
    ("^z", "", "suspend until fg; asks where the server runs in this terminal"),
    ("^q", "", "leave: asks"),
)


class HelpScreen(Dialog[None]):
    """A table of the keys; letters in lower case act on one, in upper case on all."""

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
        """One group for each scope, then the view's keys."""
        keys = cast("Host", self.app).keys
        with VerticalScroll(classes="dialog", id="table") as box:
            box.border_title = " Keys and commands "
            box.border_subtitle = " Esc closes "
            yield Static(
                Content(
                    "Lower-case keys act on one, upper-case on all. A key that lacks an argument asks for it."
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
        """The table takes the arrow keys."""
        self.query_one("#table").focus()


def _view_rows(keys: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    for binding in VIEW_BINDINGS:
        yield shown_keys(keys[view_name(binding)]), binding.description.lower(), binding.tooltip
    yield from _MOVING
    yield shown_keys(keys[PALETTE]), "", "the command palette; themes too"


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
