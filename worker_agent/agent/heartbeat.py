"""The heartbeat: renews the agent's lease, reports its state, and follows the desired state."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import threading
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from worker_agent.agent.cancels import Cancels
from worker_agent.agent.device_token import BUSY_S
from worker_agent.agent.end_note import LOG_FILE_VARIABLE
from worker_agent.agent.registration import REST_INTERVAL_S, AgentSession
from worker_agent.agent.silence import Silence
from worker_agent.agent.state import AgentState
from worker_agent.agent.stops import follow_stop_and_restart
from worker_agent.console.log import LOG
from worker_agent.execution.in_flight import InFlight
from worker_agent.execution.line_buffer import MAX_LINES_PER_S
from worker_agent.protocol import wire
from worker_agent.protocol.errors import LeaseLost, MutiTaskError, RedisUnavailable
from worker_agent.protocol.membership import MAX_LOG_LINES, DesiredState
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.served_channels import served_text
from worker_agent.protocol.task_line import pack_line
from worker_agent.protocol.unpatched import time
from worker_agent.settings import Settings

INTERVAL_S = 1.0
"""The time between two heartbeats while the agent has tasks, or while nobody else sweeps."""
REST_LEASE_SHARE = 3
"""At rest the time between two heartbeats is this part of the lease at most."""
MAX_LINE_CHARACTERS = 500
DROPPED_NOTE_S = 30.0
"""The shortest time between two log lines about dropped lines of tasks."""
REPEAT_CHANNELS_BEATS = 10
"""How often a heartbeat names the agent's channels although they have not changed."""


class LogTail(logging.Handler):
    """Keeps what the agent logged since the last heartbeat, for the device's log in Redis."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        self._lines.append(f"{stamp}Z {record.levelname} {record.getMessage()}"[:MAX_LINE_CHARACTERS])

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        taken: list[str] = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken


class Heartbeat(threading.Thread):
    """Sends a heartbeat every second and after each change. An agent at rest sends fewer.

    Each heartbeat returns the desired state, and each wake reads it. The agent follows it and answers detects. It
    sweeps if a sweep is due (law 8).
    """

    def __init__(self, settings: Settings, in_flight: InFlight, state: AgentState, silence: Silence) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._settings = settings
        self._in_flight = in_flight
        self._state = state
        self._silence = silence
        self._ended = threading.Event()
        self._answered_detect = ""
        self._refused = False
        """Whether a warning about refused heartbeats was logged, and none was accepted since."""
        self._tail = LogTail()
        LOG.addHandler(self._tail)
        self._constant_fields = {
            "host": socket.gethostname(),
            "version": _version(),
            "python": platform.python_version(),
            "concurrency": settings.concurrency,
        }
        self._job = settings.job_version
        if self._job is not None and settings.job:
            self._constant_fields["job"] = self._job.loaded
        if log_file := os.environ.get(LOG_FILE_VARIABLE):
            self._constant_fields["log_file"] = log_file
        self._job_changed = False
        self._announced: tuple[AgentSession | None, tuple[int, ...]] = (None, ())
        """The session and the channels of the last heartbeat."""
        self._beats = 0
        self._dropped_lines = 0
        """How many lines of tasks were dropped and not yet counted in the log."""
        self._dropped_told = -DROPPED_NOTE_S
        self._lease_s = 0.0
        """How long a lease is."""
        self._last = self._due = 0.0
        """When the last heartbeat was sent, and when the next one is due (monotonic)."""
        self._report_due = False
        """Whether the state has changed since the last heartbeat."""
        self._follow_lock = threading.Lock()
        self._cancels = Cancels(in_flight, state)
        state.device_token.follow = self._follow_quietly

    def end(self) -> None:
        """Stop sending heartbeats."""
        LOG.removeHandler(self._tail)
        self._silence.end()
        self._ended.set()
        self._state.device_token.wake()

    def run(self) -> None:
        """Send heartbeats until ended. An unexpected error stops the agent."""
        self._silence.start()
        with self._state.stop_on_error("the heartbeat"):
            self._send_until_ended()

    def _send_until_ended(self) -> None:
        logged = ""
        while not self._ended.is_set():
            session = self._state.session
            if session is None:
                self._ended.wait(INTERVAL_S)
                continue
            try:
                if self._report_due or time.monotonic() >= self._due:
                    self._beat(session)
                    logged = ""
                if self._wait_for_token(session):
                    self._follow_desired(session)
            except LeaseLost:
                self._wait_for_new_session(session)
            except RedisUnavailable as error:
                self._after_refusal(session, error)
                self._ended.wait(INTERVAL_S)
            except Exception as error:
                # The namespace may be damaged. Heartbeats continue, since they keep the lease.
                text = str(error) if isinstance(error, MutiTaskError) else in_one_line(error)
                if text != logged:
                    LOG.error("%s", text)
                logged = text
                self._ended.wait(INTERVAL_S)

    def _beat(self, session: AgentSession) -> None:
        """Send a heartbeat, and a second one if the first one returned another desired state."""
        self._report_due = False
        sweep_due = self._send(session)
        if self._report_due:
            self._report_due = False
            self._send(session, sweep=False)
        self._after_success()
        self._last = time.monotonic()
        at_rest = self._is_at_rest()
        # Whoever finds a sweep due comes again soon, so that a sweep is made each second also without a server.
        self._due = self._last + (self._rest_interval_s() if at_rest and not sweep_due else INTERVAL_S)
        if at_rest:
            session.close_idle_connections(waiting=self._state.device_token.covered)

    def _is_at_rest(self) -> bool:
        """Return whether the agent has no task, and gets none without a change that wakes this thread."""
        in_flight = self._in_flight
        return (
            in_flight.is_empty()
            and not in_flight.lines
            and (self._state.paused or self._state.device_token.covered)
        )

    def _rest_interval_s(self) -> float:
        return max(INTERVAL_S, min(REST_INTERVAL_S, self._lease_s / REST_LEASE_SHARE))

    def _wait_for_token(self, session: AgentSession) -> bool:
        """Wait for the device's token until the next heartbeat is due. Return whether this thread got the token."""
        token = self._state.device_token
        while not self._report_due and not self._ended.is_set():
            left = self._due - time.monotonic()
            if left <= 0:
                break
            if not token.covered:
                key = session.broker.keys.device_token(session.device)
                return session.heartbeat_wait.wait([key], left, self._ended.is_set) is not None
            token.rest(left, lambda: not self._report_due)
            if not token.covered and not self._report_due:
                self._due = min(self._due, self._last + INTERVAL_S)
                # With a light load, the long poll waits again at once.
                self._ended.wait(BUSY_S)
        return False

    def _after_refusal(self, session: AgentSession, error: RedisUnavailable) -> None:
        """Log that Redis refuses heartbeats, unless it refuses the claim loop's calls too.

        A Redis that is out of memory still accepts calls that free memory.
        """
        if not self._refused and not session.broker.retry.waiting_reason:
            self._refused = True
            LOG.warning("%s; tasks continue, and heartbeats are retried", error)

    def _after_success(self) -> None:
        if self._refused:
            LOG.info("heartbeats are accepted: Redis answers again")
        self._refused = False
        self._silence.restart()

    def send_final(self, session: AgentSession) -> None:
        """Report the last counts before the agent leaves. Raises `LeaseLost` or `RedisUnavailable`."""
        self._dropped_told = -DROPPED_NOTE_S
        self._send(session, sweep=False)

    def _follow_quietly(self) -> None:
        """Read the desired state and follow it, for the long poll. If that fails, the next heartbeat does it."""
        session = self._state.session
        if session is not None:
            with contextlib.suppress(MutiTaskError):
                self._follow_desired(session)

    def _follow_desired(self, session: AgentSession) -> None:
        self._follow(session, session.heartbeat_broker.read_desired(session.device))

    def _follow(self, session: AgentSession, desired: DesiredState) -> None:
        """Follow the desired state, and note whether a change should be reported at once."""
        state = self._state
        with self._follow_lock:
            before = state.paused, state.channels
            state.set_paused(desired.paused)
            state.assign(desired.channels)
            follow_stop_and_restart(state, desired)
            answers = desired.detect not in ("", self._answered_detect)
            if answers:
                self._answered_detect = desired.detect
            if before != (state.paused, state.channels):
                self._report_due = True
            cancels = self._cancels.follow(session, desired.cancels) if desired.cancels else ()
        for name, packed in cancels:
            session.heartbeat_broker.answer_detect(name, packed)
        if answers:
            answer = wire.pack([session.device, self._observed_state()])
            session.heartbeat_broker.answer_detect(desired.detect, answer)

    def _observed_state(self) -> Literal["running", "paused"]:
        return "paused" if self._state.paused else "running"

    def _send(self, session: AgentSession, *, sweep: bool = True) -> bool:
        """Send one heartbeat, and follow the desired state that it returns. Return whether a sweep was due."""
        in_flight, broker = self._in_flight, session.heartbeat_broker
        running = in_flight.describe_running()
        fields: dict[str, Any] = {
            **self._constant_fields,
            "channel": min(self._state.channels, default=0),
            "channels": served_text(self._state.served),
            "state": self._observed_state(),
            "pid": os.getpid(),
            "since_ms": session.since_ms,
            "running": max(len(running), len(in_flight.running)),
            "tasks": running,
            "done": in_flight.done,
            "errors": in_flight.errors,
            "task_s": in_flight.task_s,
            "timeout_s": self._settings.timeout or 0,
            "beat_s": self._rest_interval_s() if self._is_at_rest() else INTERVAL_S,
        }
        if self._has_changed_job(session):
            fields["job_changed"] = True
        claims_from = () if self._state.paused else self._state.channels
        changes = self._changes(session, claims_from)
        renew = self._beats % REPEAT_CHANNELS_BEATS == 0
        reply = broker.heartbeat(session.device, wire.pack(fields), **changes, renew_record=renew)
        self._announced, self._beats = (session, claims_from), self._beats + 1
        self._lease_s = reply.lease_ms / 1000
        session.pace.renewed(self._lease_s)
        self._state.set_channels(reply.channels)
        if lines := self._tail.take():
            broker.append_device_log(
                session.device, [line.encode("utf-8", "replace").decode() for line in lines]
            )
        if in_flight.lines or self._dropped_lines:
            self._send_task_lines(session)
        if sweep:
            self._follow(session, reply.desired)
            if reply.sweep_due:
                self._sweep(session)
        return reply.sweep_due

    def _has_changed_job(self, session: AgentSession) -> bool:
        """Return whether the job on the disk is another one than this agent's, and log when that begins."""
        changed = self._job is not None and self._job.has_changed()
        if self._job is not None and changed and not self._job_changed:
            LOG.info("%s has changed: restart_one %d loads it", self._job.path.name, session.device)
        self._job_changed = changed
        return changed

    def _send_task_lines(self, session: AgentSession) -> None:
        lines, dropped = self._in_flight.lines.take()
        if lines:
            session.heartbeat_broker.append_task_lines(session.device, list(map(pack_line, lines)))
        self._dropped_lines += dropped
        now = time.monotonic()
        if self._dropped_lines and now >= self._dropped_told + DROPPED_NOTE_S:
            text = f"{self._dropped_lines} lines of tasks are not on the device's screen"
            LOG.warning("%s: it takes %d a second; stderr has them all", text, MAX_LINES_PER_S)
            self._dropped_lines, self._dropped_told = 0, now

    def _changes(self, session: AgentSession, claims_from: tuple[int, ...]) -> dict[str, list[int]]:
        """Return the channels to name in a heartbeat: all at the first one, at a change, and now and then."""
        announced, known = self._announced
        known = known if announced is session else ()
        if announced is session and known == claims_from and self._beats % REPEAT_CHANNELS_BEATS:
            return {}
        not_from = [channel for channel in known if channel not in claims_from]
        return {"claims_from": list(claims_from), "not_from": not_from}

    def _sweep(self, session: AgentSession) -> None:
        recovered = recover_and_promote(session.heartbeat_broker, session.device, self._state.channel_count)
        if recovered:
            LOG.info("recovered %d tasks of an agent that died", recovered)
            text = f"{recovered} tasks of a dead agent recovered"
            session.heartbeat_broker.append_event("warning", f"Device{session.device}", text)

    def _wait_for_new_session(self, session: AgentSession) -> None:
        """Wake the claim loop, which learns of the fence by its own call, and wait for its new session."""
        self._due = 0.0
        self._state.set_fenced(session)
        while self._state.session is session and not self._ended.wait(0.1):
            pass


def _version() -> str:
    try:
        return version("mutitask")
    except PackageNotFoundError:
        return "unknown"
