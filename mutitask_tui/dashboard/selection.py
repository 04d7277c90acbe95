"""What was selected when a key was pressed, and how a command takes its arguments from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mutitask_tui.server.commands import Command, Param


@dataclass(frozen=True, slots=True)
class Selection:
    """The ids under the cursors of a screen; None where it shows nothing of that kind."""

    device: int | None = None
    channel: int | None = None
    fail: tuple[int, str] | None = None
    """A failed task's channel and id."""
    only_channel: int | None = None
    """The one channel that the screen is narrowed down to: an `all` command with `[C]` means that one."""

    payload: str = ""
    """The failed task's payload as text."""


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
