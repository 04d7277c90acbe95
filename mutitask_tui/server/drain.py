"""Asks agents to stop or to restart, and waits until they have left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mutitask_tui.server.operator_calls import Caller
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.unpatched import time

DRAIN_S = 30.0
"""How long `exit` lets the agents finish their running tasks, in seconds. Then they must hand these back."""
FORCE_STOP_S = 3.0
"""How long the agents that did not finish in time may take to hand back their running tasks, in seconds."""
POLL_S = 0.1
STOP_TTL_MS = 86_400_000
_STOPS = (b"1", b"2")
"""The values of `wish:stop` that ask for a stop, and not for a restart."""


def request_stop(caller: Caller, agents: Mapping[int, str]) -> set[str]:
    """Ask agents (device to actor) to finish their running tasks, hand back the rest and exit.

    Agents that were asked before must also hand back their running tasks. Returns the actors of these agents.
    """
    asked_before = _asked_to_stop(caller, agents)
    if agents:
        caller.call(
            lambda b: b.set_desired(
                b.keys.desired_stop,
                {actor: "2" if actor in asked_before else "1" for actor in agents.values()},
                tokens=[b.keys.device_token(device) for device in agents],
                ttl_ms=STOP_TTL_MS,
            )
        )
    return asked_before


def request_restart(caller: Caller, agents: Mapping[int, str]) -> tuple[set[str], set[str]]:
    """Ask agents (device to actor) to finish their running tasks, hand back the rest and start anew.

    Agents that were asked before must also hand back their running tasks. Returns the actors of these agents, and those
    of agents that were asked to stop, which this does not change.
    """
    asked = _asked(caller, agents)
    stopping = {actor for actor, text in asked.items() if text in _STOPS}
    again = asked.keys() - stopping
    if wanted := {device: actor for device, actor in agents.items() if actor not in stopping}:
        caller.call(
            lambda b: b.set_desired(
                b.keys.desired_stop,
                {actor: "rr" if actor in again else "r" for actor in wanted.values()},
                tokens=[b.keys.device_token(device) for device in wanted],
                ttl_ms=STOP_TTL_MS,
            )
        )
    return again, stopping


def drain_agents(caller: Caller, broker: Broker, on_note: Callable[[str], None]) -> None:
    """Wait until no agent is left, at most `DRAIN_S` and then `FORCE_STOP_S` seconds.

    Agents that registered after `exit` asked all agents to stop are asked too. Raises `MutiTaskError`.
    """
    deadline = time.monotonic() + DRAIN_S
    asked: set[str] = set()
    while (remaining := broker.query("HVALS", broker.keys.agents)) and time.monotonic() < deadline:
        if not asked.issuperset(actor.decode("utf-8", "replace") for actor in remaining):
            agents = caller.agents()
            _request_stop_once(caller, agents)
            asked.update(agents.values())
        time.sleep(POLL_S)
    if remaining:
        on_note(f"{len(remaining)} agents still run tasks after {DRAIN_S:g} s: these are handed back")
        request_stop(caller, caller.agents())
        deadline = time.monotonic() + FORCE_STOP_S
        while broker.query("HLEN", broker.keys.agents) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _request_stop_once(caller: Caller, agents: Mapping[int, str]) -> None:
    asked_before = _asked_to_stop(caller, agents)
    request_stop(caller, {device: actor for device, actor in agents.items() if actor not in asked_before})


def _asked_to_stop(caller: Caller, agents: Mapping[int, str]) -> set[str]:
    return {actor for actor, text in _asked(caller, agents).items() if text in _STOPS}


def _asked(caller: Caller, agents: Mapping[int, str]) -> dict[str, bytes]:
    """Return what the agents were asked: actor to its field of `wish:stop`, without those that were asked nothing."""
    actors = list(agents.values())
    if not actors:
        return {}
    found = caller.call(lambda b: b.query("HMGET", b.keys.desired_stop, *actors))
    return {actor: text for actor, text in zip(actors, found, strict=True) if text}
