"""The state that the parts of an agent share: its session, and whether it is paused, stopping or fenced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from worker_agent.agent.registration import AgentSession
from worker_agent.console.log import LOG
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.reasons import in_one_line


class AgentState:
    """Any thread may read the state and call its methods. Each change wakes the claim loop through `wake`."""

    def __init__(self, wake: threading.Event) -> None:
        self.paused = True
        self.stopping = threading.Event()
        """Set once the agent is asked to stop."""
        self.force_stop = threading.Event()
        """Set once the agent must not wait for its running tasks."""
        self.failed = False
        """Whether one of the agent's own threads failed, which stops the agent."""
        self.session: AgentSession | None = None
        """The registration on a device, None before the first one. Only the claim loop replaces it later."""
        self.fenced_session: AgentSession | None = None
        """The last session whose actor was fenced."""
        self._wake = wake

    def stop(self) -> None:
        """Ask the agent to finish its running tasks, hand back the others and stop. A second call sets `force_stop`."""
        if self.stopping.is_set():
            self.force_stop.set()
        self.stopping.set()
        self._wake.set()

    @contextlib.contextmanager
    def stop_on_error(self, what: str) -> Iterator[None]:
        """Stop the agent if an unexpected error ends one of its threads: it would hang without a message."""
        try:
            yield
        except MutiTaskError:
            raise
        except BaseException as error:
            LOG.error(
                "%s failed (%s): the agent stops and hands back its running tasks", what, in_one_line(error)
            )
            self.failed = True
            self.force_stop.set()
            self.stop()

    def set_paused(self, paused: bool) -> None:
        """Pause or start the agent. A pause hands back all tasks that have not started."""
        if paused != self.paused:
            self.paused = paused
            LOG.info("%s", "paused: running tasks finish" if paused else "started: taking tasks")
            self._wake.set()

    def set_fenced(self, session: AgentSession) -> None:
        """Record that the session's actor was fenced. The claim loop then starts a new session."""
        self.fenced_session = session
        self._wake.set()
