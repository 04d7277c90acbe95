"""What was selected when a key was pressed, and how a command takes its arguments from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mutitask_tui.server.commands.registry import Command, Param, find

Fail = tuple[int, str]
"""A failed task's channel and id."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The ids under the cursors of a screen, None where it shows nothing of that kind; and what is marked."""

    device: int | None = None
    channel: int | None = None
    fail: Fail | None = None
    only_channel: int | None = None
    """The one channel that the screen is narrowed down to: an `all` command with `[C]` means that one."""
    devices: tuple[int, ...] = ()
    """The marked devices: a `device` command acts on these, not on the one under the cursor."""
    fails: tuple[Fail, ...] = ()
    """The marked failed tasks, likewise."""
    hidden: int = 0
    """How many of the marked ones cannot be seen, because a filter hides them."""
    shown_fails: tuple[Fail, ...] | None = None
    """All that a narrowed list of failed tasks shows; None where it is not narrowed."""
    narrowed: str = ""
    """What narrows it, in words."""
    gone: tuple[int, ...] = ()
    """Devices that are hidden because they are offline: `purge_device` means them where none is marked."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One command on several devices or failed tasks."""

    command: Command
    targets: tuple[tuple[Any, ...], ...]
    hidden: int = 0
    narrowed: str = ""
    """How the targets were found, in words, if not by marks."""

    @property
    def line(self) -> str:
        """What it does, in short: `pause_one on 10 devices`."""
        noun = "device" if self.command.scope == "device" else "failed task"
        return f"{self.command.name} on {len(self.targets):,} {noun}{'' if len(self.targets) == 1 else 's'}"

    @property
    def asks(self) -> bool:
        """Whether a person is asked first."""
        return self.command.dangerous or bool(self.hidden) or bool(self.narrowed)


def batch_of(command: Command, selection: Selection) -> Batch | None:
    """The command on all that it means, where that is more than the one under the cursor."""
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
        return None if selection.shown_fails is None else Batch(command, selection.shown_fails)
    if command.name == "reload_all_fail_tasks" and selection.shown_fails is not None:
        return Batch(find("reload_one_fail_task"), selection.shown_fails, narrowed=selection.narrowed)
    return None


def known_values(command: Command, selection: Selection) -> dict[str, Any]:
    """The command's arguments that the selection answers, by parameter name."""
    known = {param.name: _from_selection(command, param, selection) for param in command.params}
    return {name: value for name, value in known.items() if value is not None}


def missing(command: Command, known: dict[str, Any]) -> tuple[Param, ...]:
    """The parameters that a person still has to name."""
    return tuple(p for p in command.params if p.name not in known and not p.optional)


def in_order(command: Command, values: dict[str, Any]) -> tuple[Any, ...]:
    """The values in the order in which the command takes them."""
    return tuple(values[p.name] for p in command.params if p.name in values)


def _from_selection(command: Command, param: Param, selection: Selection) -> Any:
    if command.scope == "fail":
        if selection.fail is None:
            return None
        return {"channel": selection.fail[0], "fail": selection.fail[1]}.get(param.kind)
    if command.scope == "all":
        return selection.only_channel if param.kind == "channel" else None
    return {"device": selection.device, "channel": selection.channel}.get(param.kind)
