"""Finds the run that somebody wants to cancel."""

from __future__ import annotations

from worker_agent.execution.in_flight import InFlight, RunningTask

NOT_RUNNING = "it does not run any more"


def id_of(item: bytes) -> str:
    """Return the id in a list item's header."""
    return item[2:22].decode("ascii", "replace")


def find_running(in_flight: InFlight, id_: str) -> tuple[int, RunningTask] | None:
    """Return the slot that runs the task with this id and the run, or None."""
    wanted = id_.encode()
    for slot, task in list(in_flight.running.items()):
        if task.item[2:22] == wanted:
            return slot, task
    return None
