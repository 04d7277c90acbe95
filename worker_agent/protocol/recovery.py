"""Recover the tasks of fenced actors and promote delayed tasks (law 8). Agents and the server share this duty."""

from __future__ import annotations

from worker_agent.protocol.actor import is_agent
from worker_agent.protocol.membership import MAX_TASKS_PER_CALL, Membership
from worker_agent.protocol.reasons import crash_reason


def recover_and_promote(broker: Membership, device: int | None, channels: int | None = None) -> int:
    """Sweep the namespace, recover and promote. Return the number of tasks that were requeued or failed as crashed.

    The namespace is swept at most once a second. `device` is recorded as the one that recovered; None for a server.
    `channels` is how many channels the namespace has; by default Redis is asked.
    """
    channels = broker.channels() if channels is None else channels
    found = broker.sweep(channels)
    # An agent has no rights to the records of actors that are not agents. A server removes whatever else is listed.
    dead = [(actor, claims_in) for actor, claims_in in found.dead if device is None or is_agent(actor)]
    recovered = sum(
        broker.recover(actor, crash_reason(device), channels=channels, claims_in=claims_in)
        for actor, claims_in in dead
    )
    for channel in found.due:
        while broker.promote(channel) == MAX_TASKS_PER_CALL:
            pass
    return recovered
