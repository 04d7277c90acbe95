"""The agent of a device: registers, runs tasks until it is stopped, and leaves in order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from worker_agent.agent.claim_loop import ClaimLoop
from worker_agent.agent.end_note import write_end_note
from worker_agent.agent.heartbeat import Heartbeat
from worker_agent.agent.registration import AgentSession, register
from worker_agent.agent.silence import Silence
from worker_agent.agent.state import AgentState
from worker_agent.console import log_format
from worker_agent.console.log import LOG
from worker_agent.execution.in_flight import InFlight
from worker_agent.execution.threads import ThreadExecutor
from worker_agent.protocol.errors import JobError, LeaseLost, RedisUnavailable
from worker_agent.protocol.settlements import Settlement
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

if TYPE_CHECKING:
    from worker_agent.execution.event_loop import EventLoopExecutor
    from worker_agent.execution.loop_processes import LoopProcessExecutor
    from worker_agent.execution.processes import ProcessExecutor


class Agent:
    """One agent. `run()` returns once it has stopped. Any thread may call `stop()`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.in_flight = InFlight(settings.concurrency)
        self.state = AgentState(self.in_flight.wake, settings)
        self._executor = self._make_executor()
        self.state.cancel = self._executor.cancel
        silence = Silence("process" if settings.in_children else settings.kind)
        self._heartbeat = Heartbeat(settings, self.in_flight, self.state, silence)
        self._claim_loop = ClaimLoop(settings, self.in_flight, self.state, silence)

    def stop(self) -> None:
        """Finish the running tasks, hand back the others, and stop. A second call does not wait for running tasks."""
        self.state.stop()

    def run(self) -> None:
        """Register, run tasks until stopped, and leave. Raises `MutiTaskError` if the agent cannot register."""
        if not self._settings.in_children and (library := _replaced_threads()):
            raise JobError(
                f"{library} has replaced Python's threads, so tasks cannot run in threads or on an event loop: "
                'start the agent with --kind process (in a program: Client(..., kind="process"))'
            )
        session = register(self._settings, self.state.stopping)
        if session is None:
            LOG.info("stopped before a server was found")
            return
        self.state.set_channels(session.channel_count)
        self.state.session = session
        log_format.CONTEXT["device"] = session.device
        write_end_note("joined")
        # A setup may take long, so heartbeats come first.
        self._heartbeat.start()
        try:
            self._start_executor(session)
            self._claim_loop.start_long_poll()
            with self.state.stop_on_error("the claim loop"):
                self._claim_loop.run_until_stopped()
            self._drain_and_leave()
        except RedisUnavailable as error:
            LOG.warning(
                "stopped without leaving in order: %s; other agents recover the tasks in flight", error
            )
        finally:
            self.in_flight.close()
            self._executor.kill()
            self._heartbeat.end()
            if self.state.session is not None:
                self.state.session.stop_waiting()

    def _start_executor(self, session: AgentSession) -> None:
        """Set the job up and start the executor. Leave the device, and raise `JobError`, if the setup fails."""
        try:
            self._executor.start(session.device, self.state.channels, self.state.stopping)
        except JobError:
            self.state.stop()
            self._drain_and_leave()
            raise

    def _make_executor(self) -> ThreadExecutor | ProcessExecutor | EventLoopExecutor | LoopProcessExecutor:
        if self._settings.kind == "thread":
            return ThreadExecutor(self._settings, self.in_flight)
        if self._settings.kind == "asyncio" and self._settings.in_children:
            from worker_agent.execution.loop_processes import LoopProcessExecutor

            return LoopProcessExecutor(
                self._settings, self.in_flight, self.state.stopping, self.state.force_stop, self._after_fault
            )
        if self._settings.kind == "asyncio":
            from worker_agent.execution.event_loop import EventLoopExecutor

            return EventLoopExecutor(self._settings, self.in_flight, self._after_fault)
        from worker_agent.execution.processes import ProcessExecutor

        return ProcessExecutor(self._settings, self.in_flight, self.state.stopping, self.state.force_stop)

    def _after_fault(self) -> None:
        """Stop an agent whose executor has failed."""
        self.state.failed = True
        self.state.force_stop.set()
        self.state.stop()

    def _drain_and_leave(self) -> None:
        """Hand back the tasks that have not started, finish the running ones, settle them, and leave (law 7)."""
        session = self._claim_loop.current_session()
        try:
            handed_back = self._hand_back_queued(session)
            self._wait_for_running(session)
            running: list[Settlement] = []
            if self.state.force_stop.is_set():
                self._executor.kill()
                handed_back += self.in_flight.hand_back_count()
                running = self.in_flight.hand_back_running()
                handed_back += len(running)
            self._claim_loop.settle(session, running)
            self._heartbeat.send_final(session)
            session.broker.leave(session.device, self.state.channel_count)
            ends = "restarts" if self.state.restarting else "stopped"
            session.broker.append_event(
                "info", f"Device{session.device}", f"{ends}; {handed_back} tasks handed back"
            )
        except (LeaseLost, RedisUnavailable) as error:
            LOG.warning("could not leave in order: %s; other agents recover the tasks in flight", error)
        else:
            LOG.info("%s; %d tasks handed back", ends, handed_back)

    def _hand_back_queued(self, session: AgentSession) -> int:
        """Hand back all tasks that have not started, and return how many."""
        self._claim_loop.settle_claim_ahead()
        queued = self.in_flight.hand_back_queued()
        count = len(queued) + self.in_flight.hand_back_count()
        # At once, before the running tasks finish: another agent can run these meanwhile.
        self._claim_loop.settle(session, queued)
        return count

    def _wait_for_running(self, session: AgentSession) -> None:
        """Wait until no task runs, and settle meanwhile. Returns earlier on a forced stop or `drain_timeout`."""
        in_flight, force_stop, limit = self.in_flight, self.state.force_stop, self._settings.drain_timeout
        running = len(in_flight.running)
        if running and not force_stop.is_set():
            LOG.info(
                "%s: waiting for %d running tasks, %s; %s again to hand them back instead",
                "restarting" if self.state.restarting else "stopping",
                running,
                "without a limit (--drain-timeout sets one)" if limit is None else f"{limit:g} s at most",
                "restart" if self.state.restarting else "stop",
            )
        in_flight.close()
        deadline = float("inf") if limit is None else time.monotonic() + limit
        while self._executor.busy() and not force_stop.wait(0.02):
            if in_flight.settlements:
                self._claim_loop.settle(session, [])
            if time.monotonic() >= deadline:
                LOG.warning("tasks that still run after %g s (--drain-timeout) are handed back", limit)
                force_stop.set()


def _replaced_threads() -> str:
    """Return the library that has replaced Python's threads in this process, or ''."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""
