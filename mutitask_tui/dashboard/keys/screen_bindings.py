"""The keys that single screens and lists use for themselves, as data."""

from __future__ import annotations

from collections.abc import Mapping

from textual.binding import Binding

from mutitask_tui.dashboard.keys.bindings import command_bindings, view_bindings

# fmt: off
LIST_BINDINGS: tuple[Binding, ...] = (
    Binding("up", "move(0, -1)", "Up", show=False),
    Binding("down", "move(0, 1)", "Down", show=False),
    Binding("left", "move(-1, 0)", "Left", show=False),
    Binding("right", "move(1, 0)", "Right", show=False),
    Binding("pageup", "page(-1)", "Page up", show=False),
    Binding("pagedown", "page(1)", "Page down", show=False),
    Binding("home", "jump(0)", "First", show=False),
    Binding("end", "jump(-1)", "Last", show=False),
    Binding("enter", "open", "Open", show=False),
    Binding("space", "mark", "Mark", show=False),
    Binding("asterisk", "mark_all", "Mark all", show=False),
)
"""The keys of every list with a cursor."""

MAIN_BINDINGS: tuple[Binding, ...] = (Binding("escape", "clear", "Clear", show=False),)

CHANNEL_BINDINGS: tuple[Binding, ...] = (
    Binding("escape,backspace", "app.pop_screen", "Back"),
    *command_bindings("Channel", "Max", "Skip"),
    Binding("F", "channel_fails", "Fails", tooltip="the failed tasks of this channel"),
)

DEVICE_BINDINGS: tuple[Binding, ...] = (
    Binding("escape", "clear_or_back", "Back"),
    Binding("backspace", "app.pop_screen", "Back", show=False),
    *command_bindings("Pause", "Start", "Detect", "Cancel", "Stop", "Restart", "Assign", "Purge"),
    *view_bindings("view.filter"),
)

TASK_BINDINGS: tuple[Binding, ...] = (
    Binding("escape,backspace", "app.pop_screen", "Back"),
    *command_bindings("Cancel", "Pause", "Start", "Stop"),
)

FAILS_BINDINGS: tuple[Binding, ...] = (
    Binding("escape", "clear_or_back", "Back"),
    Binding("backspace", "app.pop_screen", "Back", show=False),
    *command_bindings("Reload", "Edit", "Delete", "Export"),
    Binding("G", "groups", "Groups", tooltip="group the failed tasks by error, or list each"),
    *view_bindings("view.filter"),
    Binding("left_square_bracket", "change_channel(-1)", "Previous channel", show=False),
    Binding("right_square_bracket", "change_channel(1)", "Next channel"),
    Binding("f5", "reload_list", "Refresh", show=False),
)

FAILED_BINDINGS: tuple[Binding, ...] = (
    Binding("escape,backspace", "app.pop_screen", "Back"),
    *command_bindings("Reload", "Edit", "Delete", "Export"),
)

CHART_BINDINGS: tuple[Binding, ...] = (
    Binding("escape,backspace", "app.pop_screen", "Back"),
    Binding("right", "channel(1)", "Next channel"),
    Binding("left", "channel(-1)", "Previous channel", show=False),
    Binding("up", "zoom(-1)", "Zoom in"),
    Binding("down", "zoom(1)", "Zoom out"),
)
# fmt: on

SCREEN_BINDINGS: Mapping[str, tuple[Binding, ...]] = {
    "Main screen": MAIN_BINDINGS,
    "Channel": CHANNEL_BINDINGS,
    "Device": DEVICE_BINDINGS,
    "Running task": TASK_BINDINGS,
    "Failed tasks": FAILS_BINDINGS,
    "One failed task": FAILED_BINDINGS,
    "Charts": CHART_BINDINGS,
    "Every list": LIST_BINDINGS,
}
"""The bindings of each screen and list, by its title in the documentation."""
