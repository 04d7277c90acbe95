"""The key bindings of the app: one for each command of the registry, and the view's own."""

from __future__ import annotations

from dataclasses import replace

from textual.binding import Binding
from textual.keys import format_key

from mutitask_tui.server.commands.registry import COMMANDS, Command, find

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Pause", ("pause_one", "pause_all")),
    ("Start", ("start_one", "start_all")),
    ("Leave", ("exit",)),
    ("Detect", ("detect_one", "detect_all")),
    ("Allot", ("pause_allot", "start_allot")),
    ("Channel", ("pause_channel", "start_channel")),
    ("Max", ("reset_max_task",)),
    ("Rate", ("reset_rate",)),
    ("Reload", ("reload_one_fail_task", "reload_all_fail_tasks")),
    ("Stop", ("stop_one", "stop_all")),
    ("Restart", ("restart_one", "restart_all")),
    ("Assign", ("assign",)),
    ("Devices", ("add_device", "del_device")),
    ("Fail counts", ("detect_fail_channel",)),
    ("Cancel", ("cancel_task",)),
    ("Skip", ("skip_item",)),
    ("Purge", ("purge_device",)),
    ("Delete", ("delete_one_fail_task",)),
    ("Edit", ("edit_fail_task",)),
    ("Export", ("export_fail_tasks",)),
    ("End allot", ("stop_allot",)),
    ("Detach", ("detach",)),
)
"""The commands in the groups that the key bar shows, most used first."""

# fmt: off
VIEW_BINDINGS: tuple[Binding, ...] = (
    Binding("F", "fails", "Fails", tooltip="show the failed tasks, newest first", id="view.fails"),
    Binding("colon", "command_line", "Command", tooltip="type a command", id="view.command_line"),
    Binding("question_mark,f1", "help", "Help", tooltip="show all keys", id="view.help"),
    Binding("slash", "filter", "Filter", tooltip="filter the list while you type", id="view.filter"),
    Binding("n", "next_fault(1)", "Next fault", tooltip="go to the next device or channel with a fault",
            id="view.next_fault"),
    Binding("N", "next_fault(-1)", "Previous fault", show=False, tooltip="go to the previous one",
            id="view.fault_before"),
    Binding("exclamation_mark", "faults_only", "Faults only",
            tooltip="show only devices or channels with a fault, or all", id="view.faults_only"),
    Binding("o", "sort", "Sort", tooltip="sort the devices or the channels by the next column",
            id="view.sort"),
    Binding("O", "sort_reverse", "Reverse", show=False, tooltip="reverse the sort order",
            id="view.sort_reverse"),
    Binding("h", "hide_offline", "Hide offline", tooltip="hide or show the offline devices",
            id="view.hide_offline"),
    Binding("H", "chart", "Charts",
            tooltip="show the rate, the fill level and the failed tasks of the last hour", id="view.chart"),
    Binding("j", "join", "Join", tooltip="show the command for another machine", id="view.join"),
    Binding("v", "freeze", "Freeze", tooltip="freeze the view, or continue", id="view.freeze"),
    Binding("g", "density", "Density", tooltip="show each device or channel on one line or on several",
            id="view.density"),
)
# fmt: on
"""The keys that change only the view."""

_AFTER_START = ("view.fails", "view.command_line", "view.help")
_AFTER_DETECT = ("view.filter", "view.next_fault", "view.sort")


def app_bindings() -> list[Binding]:
    """Return every binding of the app, in the order of the key bar."""
    groups = [_group(label, names) for label, names in GROUPS]
    first = [b for b in VIEW_BINDINGS if b.id in _AFTER_START]
    second = [b for b in VIEW_BINDINGS if b.id in _AFTER_DETECT]
    rest = [b for b in VIEW_BINDINGS if b not in (*first, *second)]
    start, detect, others = groups[:2], groups[2:4], groups[4:]
    ordered = [*_flat(start), *first, *_flat(detect), *second, *_flat(others), *rest]
    named = {binding.id for binding in ordered}
    unnamed = [_binding(c, c.name, None, show=False) for c in COMMANDS if c.key and c.name not in named]
    return [*ordered, *unnamed]


def command_bindings(*labels: str) -> list[Binding]:
    """Return the groups with these labels, for a screen that shows them first."""
    groups = dict(GROUPS)
    return [binding for label in labels for binding in _group(label, groups[label], "app.")]


def view_bindings(*ids: str) -> list[Binding]:
    """Return the view's own bindings with these ids, for a screen that shows them first."""
    known = {binding.id: binding for binding in VIEW_BINDINGS}
    return [replace(known[id_], action=f"app.{known[id_].action}", show=True) for id_ in ids]


def key_text(key: str) -> str:
    """Return a key as the screen shows it: `+`, `^d`, `P`."""
    *modifiers, last = key.split("+")
    name = format_key(last)
    return f"^{name}" if modifiers == ["ctrl"] else "+".join([*modifiers, name])


def _flat(groups: list[list[Binding]]) -> list[Binding]:
    return [binding for family in groups for binding in family]


def _group(label: str, names: tuple[str, ...], namespace: str = "") -> list[Binding]:
    group = Binding.Group(label, compact=True) if len(names) > 1 else None
    return [_binding(find(name), label, group, namespace=namespace) for name in names]


def _binding(
    command: Command, label: str, group: Binding.Group | None, *, show: bool = True, namespace: str = ""
) -> Binding:
    return Binding(
        command.key,
        f"{namespace}command('{command.name}')",
        label,
        show=show,
        key_display=key_text(command.key),
        tooltip=f"{command.name}: {command.summary}",
        id=command.name,
        group=group,
    )
