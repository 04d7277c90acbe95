"""Follows the desired state of an agent's end: a stop, a restart, or one of them without a wait for running tasks."""

from __future__ import annotations

from worker_agent.agent.state import AgentState
from worker_agent.console.log import LOG
from worker_agent.protocol.membership import DesiredState


def follow_stop_and_restart(state: AgentState, desired: DesiredState) -> None:
    """Let the agent stop or restart if it was asked to."""
    if desired.stop and (state.restarting or not state.stopping.is_set()):
        LOG.info("asked to stop")
        state.stop()
    elif desired.stop > 1 and not state.force_stop.is_set():
        LOG.info("asked to stop again: running tasks are handed back")
        state.stop()
    elif desired.restart and not state.stopping.is_set():
        _restart(state)
    elif desired.restart > 1 and state.restarting and not state.force_stop.is_set():
        LOG.info("asked to restart again: running tasks are handed back")
        state.restart()


def _restart(state: AgentState) -> None:
    if state.may_restart:
        LOG.info("asked to restart")
        state.restart()
    elif not state.restart_refused:
        state.restart_refused = True
        LOG.warning(
            "asked to restart, but this agent runs in a thread of a program that it cannot start again: it continues"
        )
