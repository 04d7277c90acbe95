"""Writes the tables in docs/dashboard.md and docs/configuration.md from the code: `python docs/make_dashboard.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.keys.keymap import FIXED, PALETTE, default_keys, shown_keys, view_name
from mutitask_tui.dashboard.keys.screen_bindings import SCREEN_BINDINGS
from mutitask_tui.server.commands.registry import COMMANDS, Scope
from mutitask_tui.settings.options import (
    CHANNEL_SORT_COLUMNS,
    CHART_MINUTES,
    SETTINGS,
    SORT_COLUMNS,
    theme_names,
)
from mutitask_tui.settings.preferences import Preferences

HERE = Path(__file__).parent
SCOPES: tuple[tuple[Scope, str], ...] = (
    ("device", "On the selected device, or on those that are marked"),
    ("channel", "On the selected channel"),
    ("fail", "On the selected failed task, or on those that are marked"),
    ("task", "On the selected running task of a device's screen"),
    ("all", "On everything"),
    ("view", "On this view"),
)


def row(*cells: str) -> str:
    """Return one line of a table."""
    whole = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| {whole} |\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table."""
    return row(*head) + "|" + "---|" * len(head) + "\n" + "".join(row(*cells) for cells in rows)


def keys_of(keys: str) -> str:
    """Return keys as code."""
    return " ".join(f"`{key}`" for key in shown_keys(keys).split())


def command_keys() -> str:
    """Return the commands by what they act on, then the view's own actions."""
    parts = []
    for scope, title in SCOPES:
        rows = [
            (
                keys_of(c.key) or "`:`",
                f"`{c.usage}`",
                f"{c.summary}{'; asks for confirmation' if c.dangerous else ''}",
            )
            for c in COMMANDS
            if c.scope == scope
        ]
        parts.append(f"**{title}**\n\n{table(('key', 'command', 'what it does'), rows)}\n")
    view = [(keys_of(b.key), f"`{view_name(b)}`", b.tooltip) for b in VIEW_BINDINGS]
    view.append((keys_of(default_keys()[PALETTE]), f"`{PALETTE}`", "search all commands and themes"))
    parts.append(f"**The view**\n\n{table(('key', 'name in `[keys]`', 'what it does'), view)}")
    return "".join(parts)


def screen_keys() -> str:
    """Return the keys of single screens and of the lists. The text describes arrows, Enter and Esc."""
    movable = {*default_keys(), *(binding.id for binding in VIEW_BINDINGS)}
    rows: list[tuple[str, ...]] = []
    for title, bindings in SCREEN_BINDINGS.items():
        for binding in bindings:
            described = title != "Charts" and set(binding.key.split(",")) <= {*FIXED, "backspace"}
            if binding.id not in movable and not described:
                rows.append((title, keys_of(binding.key), binding.tooltip or binding.description.lower()))
    return table(("screen", "key", "what it does"), rows)


def settings() -> str:
    """Return every setting except the keys."""
    preferences = Preferences()
    columns = ", ".join(f"`{column}`" for column in SORT_COLUMNS)
    channel_columns = ", ".join(f"`{column}`" for column in CHANNEL_SORT_COLUMNS)
    meaning = {
        "theme": f"one of the {len(theme_names())} themes below",
        "sort": f"the column that the devices are sorted by: {columns}; with `-` before it in descending order",
        "refresh": "seconds between the arrival of a snapshot and the next request, from 0.1 to 60",
        "layout.density": "`roomy`: three lines for each device; `dense`: one; `auto`: chosen by the number of devices",
        "layout.hide_offline": "whether the grid hides offline devices",
        "layout.channel_density": "`roomy`: two lines for each channel; `dense`: one; `auto`: one if not all fit",
        "layout.channel_sort": f"the column that the channels are sorted by: {channel_columns}; with `-` before it in "
        "descending order; `auto`: by number, or the worst fault first if the list is dense",
        "layout.chart_minutes": f"how many minutes the charts show at most: {', '.join(map(str, CHART_MINUTES))}",
    }
    rows = [(f"`{s.name}`", f"`{json.dumps(preferences.value(s.name))}`", meaning[s.name]) for s in SETTINGS]
    themes = ", ".join(f"`{name}`" for name in theme_names())
    return f"{table(('setting', 'default', 'meaning'), rows)}\nThe themes: {themes}.\n"


def names() -> str:
    """Return every name that is allowed in `[keys]`."""
    rows = ((f"`{name}`", keys_of(keys)) for name, keys in default_keys().items())
    return table(("name", "default"), rows)


PARTS = {
    "dashboard.md": {"keys": command_keys, "screen-keys": screen_keys},
    "configuration.md": {"settings": settings, "names": names},
}


def made(page: str) -> str:
    """Return a page with its tables made from the code."""
    text = (HERE / page).read_text(encoding="utf-8")
    for name, make in PARTS[page].items():
        head, start, rest = text.partition(f"<!-- {name}: made by docs/make_dashboard.py -->\n")
        _, end, tail = rest.partition(f"<!-- /{name} -->")
        if not (start and end):
            raise SystemExit(f"{page} has no place for {name}")
        text = f"{head}{start}\n{make()}\n{end}{tail}"
    return text


if __name__ == "__main__":
    for name in PARTS:
        (HERE / name).write_text(made(name), encoding="utf-8")
