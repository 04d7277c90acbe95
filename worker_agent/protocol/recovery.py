"""The duty that agents and server share: recover the dead, promote the delayed (law 8), keep the history."""

from __future__ import annotations

from worker_agent.protocol.membership import Membership
from worker_agent.protocol.reasons import crashed


def recover_and_promote(broker: Membership, device: int | None) -> int:
    """Sweep, at most once a second for the whole namespace; how many tasks came back or failed as crashed.

    `device` is who does it, for the record; None for a server.
    """
    channels = int(broker.ask("HGET", broker.keys.meta, "channels") or 0)
    found = broker.sweep(channels)
    recovered = sum(broker.recover(dead, crashed(device)) for dead in found.dead)
    for channel in found.due:
        broker.promote(channel)
    broker.sample(channels)
    return recovered
