"""The state that the parts of an agent share: its session, its channels, and whether it is paused or stopping."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from worker_agent.agent.device_token import DeviceToken
from worker_agent.agent.registration import AgentSession
from worker_agent.console.log import LOG
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.served_channels import Served, channel_names, parse_served, served_numbers
from worker_agent.settings import Settings


class AgentState:
    """Any thread may read the state and call its methods. Each change wakes the claim loop through `wake`."""

    def __init__(self, wake: threading.Event, settings: Settings) -> None:
        self.paused = True
        self.served: Served = settings.served
        """The channels that the agent is to serve: its own, or those that people assigned to its device."""
        self.channels: tuple[int, ...] = ()
        """The numbers of these channels, without those for which the job has no functions."""
        self._own_channels = settings.served
        self._functions = None if settings.in_children else settings.functions
        """None in process mode: only the child processes have the job's functions."""
        self._assigned = ""
        self.channel_count = 0
        """How many channels the namespace has."""
        self._without_functions: set[int] = set()
        self.stopping = threading.Event()
        """Set once the agent is asked to stop."""
        self.force_stop = threading.Event()
        """Set once the agent must not wait for its running tasks."""
        self.may_restart = False
        """Whether the agent is its process's main work, so that it can start the program anew."""
        self.restart_refused = False
        """Whether the agent has said that it cannot."""
        self.restarting = False
        """Whether the program starts anew once the agent has left."""
        self.failed = False
        """Whether one of the agent's own threads failed, which stops the agent."""
        self.session: AgentSession | None = None
        """The registration on a device, None before the first one. Only the claim loop replaces it later."""
        self.fenced_session: AgentSession | None = None
        """The last session whose actor was fenced."""
        self.device_token = DeviceToken()
        self.cancel: Callable[[str, str], str] = lambda _id, _who: "the agent has not started yet"
        """Ends the run of the task with an id. Returns '' or why it does not end now. The executor sets this."""
        self._wake = wake

    def stop(self) -> None:
        """Ask the agent to finish its running tasks, hand back the others and stop. A second call sets `force_stop`.

        An agent that was to restart stops instead.
        """
        if self.stopping.is_set() and not self.restarting:
            self.force_stop.set()
        self.restarting = False
        self.stopping.set()
        self._wake.set()

    def restart(self) -> None:
        """Ask the agent to do as for a stop, and then to start anew. A second call sets `force_stop`."""
        if self.stopping.is_set():
            if not self.restarting:
                return
            self.force_stop.set()
        self.restarting = True
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

    def set_channels(self, count: int) -> None:
        """Set how many channels the namespace has."""
        if count != self.channel_count:
            self.channel_count = count
            self._set_served(self.served)

    def assign(self, text: str) -> None:
        """Serve the channels that people assigned to the device; with '', the agent's own."""
        if text == self._assigned:
            return
        self._assigned = text
        try:
            self._set_served(parse_served(text) if text else self._own_channels)
        except ValueError as error:
            LOG.error("what was assigned to this device is ignored: %s", error)
            return
        LOG.info("assigned to %s", channel_names(self.channels))

    def _set_served(self, served: Served) -> None:
        self.served = served
        numbers = served_numbers(served, self.channel_count)
        self.channels = tuple(number for number in numbers if self._has_functions(number))
        self._wake.set()

    def _has_functions(self, channel: int) -> bool:
        if self._functions is None:
            return True
        if channel in self._without_functions:
            return False
        try:
            self._functions(channel)
        except MutiTaskError as error:
            self._without_functions.add(channel)
            LOG.error("%s This agent does not serve that channel.", error)
            return False
        return True

    def set_fenced(self, session: AgentSession) -> None:
        """Record that the session's actor was fenced. The claim loop then starts a new session."""
        self.fenced_session = session
        self._wake.set()
