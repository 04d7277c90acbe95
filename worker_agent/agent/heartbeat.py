"""An agent's ears and voice: a thread that waits for commands, obeys them, and reports every second."""

from __future__ import annotations

import logging
import os
import platform
import socket
import threading
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from worker_agent.agent.long_poll import block
from worker_agent.agent.stalls import Pulse, asleep_s
from worker_agent.console.log import LOG
from worker_agent.protocol import wire
from worker_agent.protocol.errors import LeaseLost, MutiTaskError, RedisUnavailable
from worker_agent.protocol.membership import MAX_LOG_LINES
from worker_agent.protocol.pristine import time
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.recovery import recover_and_promote

if TYPE_CHECKING:
    from worker_agent.agent.claim_loop import Agent
    from worker_agent.agent.registration import Session

REPORT_S = 1.0
LINE_CHARACTERS = 500


class LogTail(logging.Handler):
    """Keeps what the agent logged since the last report, for the device's log in Redis."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        self._lines.append(f"{stamp}Z {record.levelname} {record.getMessage()}"[:LINE_CHARACTERS])

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken: list[str] = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken


class Watcher(threading.Thread):
    """Reads the wishes at each wake and report, obeys, answers detects; sweeps when a sweep is due (law 8)."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="watcher", daemon=True)
        self._agent = agent
        self._ended = threading.Event()
        self._answered = ""
        self._silent = False
        self.heard_at = time.monotonic()
        """When Redis took the last report (monotonic)."""
        self.cpu_at = time.process_time()
        """How much CPU this process had used by then, in seconds."""
        self.pulse = Pulse()
        self.still_at = self.asleep_at = 0.0
        """How long this process had stood still, and this machine been asleep, by then, in seconds."""
        self._tail = LogTail()
        LOG.addHandler(self._tail)
        self._about = {
            "host": socket.gethostname(),
            "version": _version(),
            "python": platform.python_version(),
            "concurrency": agent.settings.concurrency,
            "channel": agent.settings.channel,
        }

    def end(self) -> None:
        """Report no more."""
        LOG.removeHandler(self._tail)
        self.pulse.end()
        self._ended.set()

    def run(self) -> None:
        """Until ended; an agent that cannot report any more is ended too."""
        self.pulse.start()
        with self._agent.watch_over("the heartbeat"):
            self._report_until_ended()

    def _report_until_ended(self) -> None:
        due, said = 0.0, ""
        while not self._ended.is_set():
            session = self._agent.session
            if session is None:
                self._ended.wait(REPORT_S)
                continue
            try:
                if self._obey(session) or time.monotonic() >= due:
                    self._report(session)
                    self._heard()
                    said = ""
                    due = time.monotonic() + REPORT_S
                key = session.broker.keys.device_token(session.device)
                block(session.watcher_client, key, max(0.05, due - time.monotonic()))
            except LeaseLost:
                self._lost(session)
            except RedisUnavailable as error:
                self._not_heard(session, error)
                self._ended.wait(REPORT_S)
            except Exception as error:
                # A garbled namespace, say: reports go on, and with them the lease.
                text = str(error) if isinstance(error, MutiTaskError) else in_one_line(error)
                if text != said:
                    LOG.error("%s", text)
                said = text
                self._ended.wait(REPORT_S)

    def _not_heard(self, session: Session, error: RedisUnavailable) -> None:
        """Say that reports are refused where the claimer's calls are not: out of memory, what frees some passes."""
        if not self._silent and not session.broker.retry.waiting_reason:
            self._silent = True
            LOG.warning("%s; tasks go on, and the reports are tried again", error)

    def _heard(self) -> None:
        if self._silent:
            LOG.info("reports are taken: Redis answers again")
        self._silent = False
        self.heard_at, self.cpu_at = time.monotonic(), time.process_time()
        self.still_at, self.asleep_at = self.pulse.still_s(), asleep_s()

    def last_report(self, session: Session) -> None:
        """Say what was done until now, before the agent leaves. Raises `LeaseLost` or `RedisUnavailable`."""
        self._report(session, sweep=False)

    def _obey(self, session: Session) -> bool:
        """Whether something changed that should be reported at once."""
        desired = session.reports.read_desired(session.device)
        changed = desired.paused != self._agent.paused
        self._agent.set_paused(desired.paused)
        if desired.stop and not self._agent.stopping.is_set():
            LOG.info("asked to stop")
            self._agent.stop()
        elif desired.stop > 1 and not self._agent.hurried.is_set():
            LOG.info("asked again to stop: what runs is handed back")
            self._agent.stop()
        if desired.detect and desired.detect != self._answered:
            self._answered = desired.detect
            session.reports.answer_detect(desired.detect, wire.pack([session.device, self._state()]))
        return changed

    def _state(self) -> Literal["running", "paused"]:
        return "paused" if self._agent.paused else "running"

    def _report(self, session: Session, *, sweep: bool = True) -> None:
        hands = self._agent.hands
        running = hands.running()
        fields: dict[str, Any] = {
            **self._about,
            "state": self._state(),
            "pid": os.getpid(),
            "since_ms": session.since_ms,
            "running": max(len(running), len(hands.begun)),
            "tasks": [list(task) for task in running],
            "done": hands.done,
            "errors": hands.errors,
            "task_s": hands.task_s,
            "timeout_s": self._agent.settings.timeout or 0,
        }
        channel = self._agent.settings.channel
        terms = session.reports.heartbeat(session.device, channel, self._state(), wire.pack(fields))
        if lines := self._tail.take():
            session.reports.append_device_log(
                session.device, [line.encode("utf-8", "replace").decode() for line in lines]
            )
        if sweep and terms.sweep_due:
            self._recover(session)

    def _recover(self, session: Session) -> None:
        recovered = recover_and_promote(session.reports, session.device)
        if recovered:
            LOG.info("recovered %d tasks of an agent that died", recovered)
            text = f"{recovered} tasks of a dead agent recovered"
            session.reports.append_event("warning", f"Device{session.device}", text)

    def _lost(self, session: Session) -> None:
        """The claimer finds out by its own call; wake it and wait until it came back as a new actor."""
        self._agent.lease_lost(session)
        while self._agent.session is session and not self._ended.wait(0.1):
            pass


def _version() -> str:
    try:
        return version("mutitask")
    except PackageNotFoundError:
        return "unknown"
