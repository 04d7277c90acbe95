"""Follows the requests to cancel running tasks, and answers each of them once."""

from __future__ import annotations

from collections.abc import Iterable

from worker_agent.agent.registration import AgentSession
from worker_agent.agent.state import AgentState
from worker_agent.console.log import LOG
from worker_agent.console.log_format import about
from worker_agent.execution.cancelling import find_running
from worker_agent.execution.in_flight import InFlight
from worker_agent.protocol.cancels import CancelAnswer, CancelRequest, answers_name
from worker_agent.protocol.reasons import in_one_line


class Cancels:
    """The requests that an agent has followed. Its caller lets one thread in at a time."""

    def __init__(self, in_flight: InFlight, state: AgentState) -> None:
        self._in_flight = in_flight
        self._state = state
        self._followed: set[str] = set()
        """The requests among the present ones that were followed. A request stays in Redis for a minute."""

    def follow(self, session: AgentSession, requests: Iterable[CancelRequest]) -> list[tuple[str, bytes]]:
        """Cancel the runs that were not cancelled yet. Return the answers: the list that takes each, and its bytes."""
        present = {request.asked: request for request in requests}
        new = [request for asked, request in present.items() if asked not in self._followed]
        self._followed = set(present)
        return [
            (answers_name(request.asked), self._cancel(session.device, request).pack()) for request in new
        ]

    def _cancel(self, device: int, request: CancelRequest) -> CancelAnswer:
        found = find_running(self._in_flight, request.id)
        if found is None:
            return CancelAnswer(device, "not_running", self._where(request.id))
        item, channel = found[1].entry[3:]
        LOG.info(
            "task %d is cancelled: %s asked for it", int(item[10:22]), request.who, extra=about(item, channel)
        )
        try:
            why = self._state.cancel(request.id, request.who)
        except Exception as error:
            return CancelAnswer(device, "asked", f"the agent could not cancel it ({in_one_line(error)})")
        if why and find_running(self._in_flight, request.id) is None:
            return CancelAnswer(device, "not_running", "it has just ended")
        return CancelAnswer(device, "asked" if why else "cancelled", why)

    def _where(self, id_: str) -> str:
        if any(entry[3][2:22] == id_.encode() for entry in list(self._in_flight.queue)):
            return "it has not started: pause its channel, or cancel it once it runs"
        return "it has ended, or another agent runs it"
