"""Runs an agent as the process's main work: with signals, a log on stderr, and an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

from worker_agent.agent import restart
from worker_agent.agent.agent import Agent
from worker_agent.agent.end_note import write_end_note
from worker_agent.agent.reload import restart_on_change
from worker_agent.console import streams
from worker_agent.console.log import LOG, log_to_stderr
from worker_agent.execution.task_lines import capture_logging, capture_streams, release
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.settings import Settings


def run_agent(settings: Settings) -> int:
    """Run an agent until it stops, and return the exit status for the process. A forced stop ends the process here."""
    log_to_stderr()
    with _captured(settings):
        return _run_agent(settings)


@contextlib.contextmanager
def _captured(settings: Settings) -> Iterator[None]:
    """Take what tasks print and log, if they run in this process and their lines are wanted."""
    if not settings.capture or settings.in_children:
        yield
        return
    capture_streams()
    capture_logging()
    try:
        yield
    finally:
        release()


def _run_agent(settings: Settings) -> int:
    agent = Agent(settings)
    caught: list[int] = []
    if threading.current_thread() is threading.main_thread():
        agent.state.may_restart = True
        caught = _stop_on_signals(agent)
    if settings.reload:
        restart_on_change(Path(settings.job), agent.state.restart)
    try:
        agent.run()
        if agent.state.restarting and not agent.state.failed:
            _start_anew(agent, caught)
    except MutiTaskError as error:
        LOG.error("%s", error)
        restart.report_failure(settings.address, settings.name, str(error))
        return error.exit_status
    if agent.state.force_stop.is_set():
        # Task functions may still run in other threads. The agent has handed their tasks back.
        for stream in (sys.stdout, sys.stderr, streams.stderr()):
            with contextlib.suppress(Exception):
                stream.flush()
        if not agent.state.failed:
            write_end_note("stopped")
        os._exit(1)
    return 0


def _start_anew(agent: Agent, caught: list[int]) -> None:
    """Start the program anew, unless a signal asked it to stop. A signal that comes later ends the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if caught:
        return
    session = agent.state.session
    LOG.info("starts anew with the job as it is now")
    write_end_note("")
    restart.start_anew(restart.device_before() if session is None else session.device)


def _stop_on_signals(agent: Agent) -> list[int]:
    """Stop the agent on SIGTERM and SIGINT. Exit at once if a second signal comes before it has its device.

    Returns the list of the signals that were caught.
    """
    # A handler may interrupt the main thread while that holds the lock of an event that `stop()` sets. So the handler
    # only puts the signal into a queue, which is safe there, and another thread stops the agent.
    signals: SimpleQueue[int] = SimpleQueue()
    caught: list[int] = []

    def catch(number: int, _frame: object) -> None:
        caught.append(number)
        signals.put(number)

    def stop_on_each_signal() -> None:
        while True:
            signals.get()
            if agent.state.stopping.is_set() and agent.state.session is None:
                os._exit(1)
            agent.stop()

    threading.Thread(target=stop_on_each_signal, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, catch)
    return caught
