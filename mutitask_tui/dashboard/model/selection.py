"""What is selected when a key is pressed, and the arguments that a command takes from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mutitask_tui.server.commands.registry import Command, Param, find
from mutitask_tui.server.snapshot import Snapshot
from worker_agent.protocol.served_channels import served_text

Fail = tuple[int, str]
"""A failed task's channel and id."""
Running = tuple[int, str]
"""A running task's channel and id."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The ids under a screen's cursors, None where it shows nothing of that kind; and what is marked."""

    device: int | None = None
    channel: int | None = None
    fail: Fail | None = None
    only_channel: int | None = None
    """The only channel that the screen shows: an `all` command with an optional channel `[C]` uses it."""
    devices: tuple[int, ...] = ()
    """The marked devices: a `device` command acts on these instead of the one under the cursor."""
    fails: tuple[Fail, ...] = ()
    """The marked failed tasks, used in the same way."""
    hidden: int = 0
    """The number of marked items that a filter hides."""
    shown_fails: Sequence[Fail] | None = None
    """All tasks that the filter of failed tasks has found; None if no filter is active."""
    filtered: str = ""
    """The active filter in words."""
    task: Running | None = None
    """The running task under the cursor."""
    gone: tuple[int, ...] = ()
    """Devices that are hidden because they are offline: `purge_device` uses them if none is marked."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One command on several devices or failed tasks."""

    command: Command
    targets: tuple[tuple[Any, ...], ...]
    hidden: int = 0
    filtered: str = ""
    """The filter that chose the targets, in words; '' if they were marked."""

    @property
    def line(self) -> str:
        """A short description: `pause_one on 10 devices`, `assign 0,2 on 10 devices`."""
        words, noun = [self.command.name], "failed task"
        if self.command.scope == "device":
            noun = "device"
            words += [str(value) for values in self.targets[:1] for value in values[1:]]
        count = len(self.targets)
        return f"{' '.join(words)} on {count:,} {noun}{'' if count == 1 else 's'}"

    @property
    def missing(self) -> tuple[Param, ...]:
        """The required parameters that the targets do not give."""
        given = len(self.targets[0]) if self.targets else len(self.command.params)
        return tuple(param for param in self.command.params[given:] if not param.optional)

    def with_arguments(self, values: tuple[Any, ...]) -> Batch:
        """Return the batch with these arguments added to each target."""
        return replace(self, targets=tuple((*target, *values) for target in self.targets))

    @property
    def needs_confirmation(self) -> bool:
        """Whether the dashboard asks for confirmation first."""
        return self.command.dangerous or bool(self.hidden) or bool(self.filtered)


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command with the arguments that it had when it was requested."""

    command: Command
    values: Sequence[Any]
    line: str
    """A short description of the request."""
    batch: Batch | None = None
    """The targets of a command on several items; they take the place of `values`."""

    @property
    def long(self) -> bool:
        """Whether the command can take long. If so, it runs beside the others and can be stopped."""
        return self.command.long or (self.batch is not None and self.command.scope == "fail")


def batch_of(command: Command, selection: Selection) -> Batch | None:
    """Return the batch that a command means; None if it means only the item under the cursor."""
    if command.scope == "device":
        if selection.devices:
            return Batch(command, tuple((number,) for number in selection.devices), selection.hidden)
        if command.name == "purge_device" and selection.gone:
            targets = tuple((number,) for number in selection.gone)
            return Batch(command, targets, len(targets), "offline and hidden")
        return None
    if command.name in ("reload_one_fail_task", "delete_one_fail_task") and selection.fails:
        return Batch(command, selection.fails, selection.hidden)
    if command.name == "export_fail_tasks":
        if selection.fails:
            return Batch(command, selection.fails, selection.hidden)
        return None if selection.shown_fails is None else Batch(command, tuple(selection.shown_fails))
    if command.name == "reload_all_fail_tasks" and selection.shown_fails is not None:
        return Batch(find("reload_one_fail_task"), tuple(selection.shown_fails), filtered=selection.filtered)
    return None


def known_values(command: Command, selection: Selection) -> dict[str, Any]:
    """Return the command's arguments that the selection determines, by parameter name."""
    known = {param.name: _from_selection(command, param, selection) for param in command.params}
    return {name: value for name, value in known.items() if value is not None}


def missing(command: Command, known: dict[str, Any]) -> tuple[Param, ...]:
    """Return the required parameters that are not in `known`."""
    return tuple(p for p in command.params if p.name not in known and not p.optional)


def to_ask_for(command: Command, known: dict[str, Any]) -> tuple[Param, ...]:
    """Return the parameters that a dialog asks for: the missing ones, and the channel of a channel command."""
    required = missing(command, known)
    if command.scope != "channel":
        return required
    return tuple(p for p in command.params if p in required or (p.optional and p.name not in known))


def present_text(asked: Sequence[Param], devices: Iterable[int], snapshot: Snapshot | None) -> str:
    """Return the initial text of a dialog: the channels that all these devices serve now, or ''."""
    if snapshot is None or [param.kind for param in asked] != ["channels"]:
        return ""
    chosen = set(devices)
    served = {device.channels for device in snapshot.devices if device.id in chosen}
    return served_text(served.pop()) if len(served) == 1 else ""


def in_order(command: Command, values: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values in the order of the command's parameters."""
    return tuple(values[p.name] for p in command.params if p.name in values)


def _from_selection(command: Command, param: Param, selection: Selection) -> Any:
    if command.scope == "fail":
        if selection.fail is None:
            return None
        return {"channel": selection.fail[0], "fail": selection.fail[1]}.get(param.kind)
    if command.scope == "task":
        if selection.task is None:
            return selection.channel if param.kind == "channel" else None
        return {"channel": selection.task[0], "task": selection.task[1]}.get(param.kind)
    if command.scope == "all":
        return selection.only_channel if param.kind == "channel" else None
    return {"device": selection.device, "channel": selection.channel}.get(param.kind)
