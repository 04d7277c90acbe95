"""Writes the tables in docs/dashboard.md and docs/configuration.md from the code: `python docs/make_dashboard.py`."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from textual.binding import Binding

from mutitask_tui.dashboard import screens
from mutitask_tui.dashboard.actions.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.actions.keymap import FIXED, PALETTE, default_keys, shown_keys, view_name
from mutitask_tui.dashboard.preferences import Memory
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.server.commands.registry import COMMANDS, Scope
from mutitask_tui.settings.config_file import CHART_MINUTES, SETTINGS, SORT_COLUMNS, theme_names

HERE = Path(__file__).parent
SCOPES: tuple[tuple[Scope, str], ...] = (
    ("device", "On the selected device, or on those that are marked"),
    ("channel", "On the selected channel"),
    ("fail", "On the selected failed task, or on those that are marked"),
    ("all", "On everything"),
    ("view", "On this view"),
)
SCREENS = {
    "MainScreen": "Main screen",
    "ChannelScreen": "Channel",
    "DeviceScreen": "Device",
    "FailsScreen": "Failed tasks",
    "FailedScreen": "One failed task",
    "ChartScreen": "Charts",
}


def row(*cells: str) -> str:
    """One line of a table."""
    whole = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| {whole} |\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table."""
    return row(*head) + "|" + "---|" * len(head) + "\n" + "".join(row(*cells) for cells in rows)


def keys_of(keys: str) -> str:
    """Keys as code."""
    return " ".join(f"`{key}`" for key in shown_keys(keys).split())


def command_keys() -> str:
    """The commands by what they act on, then the view's own."""
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
    view.append(
        (keys_of(default_keys()[PALETTE]), f"`{PALETTE}`", "every command and every theme, to be searched")
    )
    parts.append(f"**Look**\n\n{table(('key', 'name in `[keys]`', 'what it does'), view)}")
    return "".join(parts)


def screen_keys() -> str:
    """What single screens and the lists bind for themselves."""
    for module in pkgutil.iter_modules(screens.__path__):
        importlib.import_module(f"{screens.__name__}.{module.name}")
    rows: list[tuple[str, ...]] = []
    # Arrows, Enter and Esc are told in the text.
    kinds = {kind.__name__: kind for kind in _family(FrameScreen)}
    for kind, title in [*((kinds[name], title) for name, title in SCREENS.items()), (CellGrid, "Every list")]:
        for binding in _own(kind):
            if title and (
                kind.__name__ == "ChartScreen" or set(binding.key.split(",")) - {*FIXED, "backspace"}
            ):
                rows.append((title, keys_of(binding.key), binding.tooltip or binding.description.lower()))
    return table(("screen", "key", "what it does"), rows)


def _family(owner: type) -> Iterator[type]:
    for child in owner.__subclasses__():
        yield child
        yield from _family(child)


def _own(owner: type) -> Iterator[Binding]:
    movable = {*default_keys(), *(binding.id for binding in VIEW_BINDINGS)}
    for binding in owner.__dict__.get("BINDINGS", ()):
        if isinstance(binding, Binding) and binding.id not in movable:
            yield binding


def settings() -> str:
    """Every setting but the keys."""
    memory = Memory()
    columns = ", ".join(f"`{column}`" for column in SORT_COLUMNS)
    meaning = {
        "theme": f"one of the {len(theme_names())} themes below",
        "sort": f"the devices' column to sort by: {columns}; with `-` before it from the largest down",
        "refresh": "seconds from a snapshot to the next question, from 0.1 to 60",
        "layout.density": "`roomy`: three lines for each device; `dense`: one; `auto`: by their number",
        "layout.hide_offline": "whether offline devices are left out of the grid",
        "layout.chart_minutes": f"how many minutes the charts show at most: {', '.join(map(str, CHART_MINUTES))}",
    }
    rows = [(f"`{s.name}`", f"`{json.dumps(memory.value(s.name))}`", meaning[s.name]) for s in SETTINGS]
    themes = ", ".join(f"`{name}`" for name in theme_names())
    return f"{table(('setting', 'default', 'meaning'), rows)}\nThe themes: {themes}.\n"


def names() -> str:
    """Every name that may stand in `[keys]`."""
    rows = ((f"`{name}`", keys_of(keys)) for name, keys in default_keys().items())
    return table(("name", "default"), rows)


PARTS = {
    "dashboard.md": {"keys": command_keys, "screen-keys": screen_keys},
    "configuration.md": {"settings": settings, "names": names},
}


def made(page: str) -> str:
    """A page with its tables as the code has them now."""
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
