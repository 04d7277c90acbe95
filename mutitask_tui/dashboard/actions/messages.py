"""The messages that the app's threads post to the app."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from mutitask_tui.dashboard.model.selection import CommandRequest
from mutitask_tui.server.commands.registry import Outcome
from mutitask_tui.server.snapshot import Sample, Snapshot


class Polled(Message):
    """A snapshot has arrived."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class PollFailed(Message):
    """Reading a snapshot failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class HistoryLoaded(Message):
    """The stored samples of the last hour have arrived, for each channel and oldest first."""

    def __init__(self, history: Sequence[Sequence[Sample]]) -> None:
        super().__init__()
        self.history = history


class CommandDone(Message):
    """A command has run."""

    def __init__(self, request: CommandRequest, outcome: Outcome) -> None:
        super().__init__()
        self.request = request
        self.outcome = outcome


class CommandFailed(Message):
    """A command raised an error."""

    def __init__(self, request: CommandRequest, error: Exception) -> None:
        super().__init__()
        self.request = request
        self.error = error


class CommandProgress(Message):
    """A long command tells how far it is."""

    def __init__(self, request: CommandRequest, text: str) -> None:
        super().__init__()
        self.request = request
        self.text = text
