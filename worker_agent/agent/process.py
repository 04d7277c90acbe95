"""Runs an agent as the process's main work: with signals, a log on stderr, and an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from queue import SimpleQueue

from worker_agent.agent.agent import Agent
from worker_agent.agent.end_note import write_end_note
from worker_agent.console import streams
from worker_agent.console.log import LOG, log_to_stderr
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.settings import Settings


def run_agent(settings: Settings) -> int:
    """Run an agent until it stops, and return the exit status for the process. A forced stop ends the process here."""
    log_to_stderr()
    agent = Agent(settings)
    if threading.current_thread() is threading.main_thread():
        _stop_on_signals(agent)
    try:
        agent.run()
    except MutiTaskError as error:
        LOG.error("%s", error)
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


def _stop_on_signals(agent: Agent) -> None:
    """Stop the agent on SIGTERM and SIGINT. Exit at once if a second signal comes before it has its device."""
    # A handler may interrupt the main thread while that holds the lock of an event that `stop()` sets. So the handler
    # only puts the signal into a queue, which is safe there, and another thread stops the agent.
    signals: SimpleQueue[int] = SimpleQueue()

    def stop_on_each_signal() -> None:
        while True:
            signals.get()
            if agent.state.stopping.is_set() and agent.state.session is None:
                os._exit(1)
            agent.stop()

    threading.Thread(target=stop_on_each_signal, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: signals.put(caught))
