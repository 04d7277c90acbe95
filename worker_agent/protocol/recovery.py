"""The duty that agents and server share: recover the dead, promote the delayed (law 8)."""

from __future__ import annotations

from worker_agent.protocol.actor import channel_of
from worker_agent.protocol.membership import Membership
from worker_agent.protocol.reasons import crashed


def recover_and_promote(broker: Membership, device: int | None) -> int:
    """Sweep, at most once a second for the whole namespace; how many tasks came back or failed as crashed.

    `device` is who does it, for the record; None for a server.
    """
    channels = broker.channels()
    found = broker.sweep(channels)
    # An agent has no rights to the records of others than agents; a server sweeps away what stands there instead.
    dead = [actor for actor in found.dead if device is None or channel_of(actor) is not None]
    recovered = sum(broker.recover(actor, crashed(device)) for actor in dead)
    for channel in found.due:
        broker.promote(channel)
    return recovered
