"""Finds the runs of an agent by the ids of their tasks, for `current_task()`."""

from __future__ import annotations

from worker_agent.execution.child_registry import PROGRESS, Message
from worker_agent.execution.in_flight import InFlight, RunningTask
from worker_agent.execution.runner import time_limit_of
from worker_agent.execution.speech import Progress, Speech
from worker_agent.protocol.task_line import TaskLine
from worker_agent.protocol.unpatched import time

MAX_KNOWN_SLOTS = 20_000
"""Above this number, the known slots are forgotten: most of them belong to runs that have ended."""


class AgentRegistry:
    """The runs of the executor that has these tasks in flight. Any thread may use it.

    `timeout` is the time limit of tasks that have none of their own, in seconds. None for no limit.
    """

    def __init__(self, in_flight: InFlight, timeout: float | None) -> None:
        self._in_flight = in_flight
        self._timeout = timeout
        self._slots: dict[bytes, int] = {}
        """By id: the slot in which the task was found. It may run something else by now."""

    def find(self, id_: bytes) -> RunningTask | None:
        """Return the run of a task, or None if it does not run here."""
        running = self._in_flight.running
        slot = self._slots.get(id_, -1)
        task = running.get(slot)
        if task is not None and task.item[2:22] == id_:
            return task
        # A run speaks most likely when it has just begun, or when it is about to end: search from both ends.
        entries = list(running.items())
        for pair in zip(entries, reversed(entries), strict=True):
            for slot, task in pair:
                if task.item[2:22] == id_:
                    if len(self._slots) > MAX_KNOWN_SLOTS:
                        self._slots.clear()
                    self._slots[id_] = slot
                    return task
        return None

    def has(self, id_: bytes) -> bool:
        """Return whether the task runs here."""
        return self.find(id_) is not None

    def set_progress(self, id_: bytes, progress: Progress) -> None:
        """Note how far a run is. The next heartbeat reports it."""
        task = self.find(id_)
        if task is not None:
            task.progress, task.progress_at = progress, time.monotonic()

    def is_cancelled(self, id_: bytes) -> bool:
        """Return whether a run should end: somebody asked to cancel it, or it was abandoned at its time limit."""
        task = self.find(id_)
        return task is None or bool(task.cancel_asked_by)

    def deadline(self, id_: bytes) -> float | None:
        """Return when the time limit of a run ends, in seconds since the epoch. None without a limit."""
        task = self.find(id_)
        limit = None if task is None else time_limit_of(task.item, self._timeout)
        if task is None or limit is None:
            return None
        return time.time() + task.started_at + limit - time.monotonic()

    def attach(self, id_: bytes, speech: Speech) -> None:
        """Let a run have this speech. Heartbeats and time limits look at it."""
        task = self.find(id_)
        if task is not None:
            task.speech = speech

    def add_line(self, line: TaskLine) -> None:
        """Take a line for the next heartbeat."""
        self._in_flight.lines.add(line)

    def end(self, id_: bytes, speech: Speech) -> None:
        """Do nothing: nothing is held back."""

    def hear(self, message: Message) -> None:
        """Take a message of a child process, which passed `is_message`."""
        kind, id_, data = message
        if kind == PROGRESS:
            self.set_progress(id_, data)
            return
        channel, dropped, lines = data
        task = self.find(id_)
        if task is not None and task.speech is None:
            task.speech = Speech()
        for at_ms, text in lines:
            if task is not None and task.speech is not None:
                task.speech.tail.append(text)
            line = TaskLine(at_ms, channel, id_.decode("ascii", "replace"), text)
            self._in_flight.lines.add(line)
        if dropped:
            self._in_flight.lines.add_dropped(dropped)
