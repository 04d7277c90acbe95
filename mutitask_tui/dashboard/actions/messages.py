"""What the app's threads tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual.message import Message

from mutitask_tui.dashboard.model.selection import Batch
from mutitask_tui.server.commands.registry import Command, Outcome
from mutitask_tui.server.snapshot import Sample, Snapshot


@dataclass(frozen=True, slots=True)
class Act:
    """A command with the values that it had when it was asked for."""

    command: Command
    values: Sequence[Any]
    line: str
    """What was asked, in short."""
    batch: Batch | None = None
    """The same command on several targets, in place of `values`."""


class Polled(Message):
    """A snapshot came."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class LookedBack(Message):
    """What was kept of the last hour came: for each channel its samples, oldest first."""

    def __init__(self, history: Sequence[Sequence[Sample]]) -> None:
        super().__init__()
        self.history = history


class PollFailed(Message):
    """No snapshot came, and why."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class ActDone(Message):
    """A command was carried out."""

    def __init__(self, act: Act, outcome: Outcome) -> None:
        super().__init__()
        self.act = act
        self.outcome = outcome


class ActFailed(Message):
    """A command was not carried out, and why."""

    def __init__(self, act: Act, error: Exception) -> None:
        super().__init__()
        self.act = act
        self.error = error
