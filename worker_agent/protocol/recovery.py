"""Recover the tasks of fenced actors and promote delayed tasks (law 8). Agents and the server share this duty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker_agent.protocol.actor import is_agent
from worker_agent.protocol.calls import MAX_TASKS_PER_CALL, Calls
from worker_agent.protocol.reasons import crash_reason
from worker_agent.protocol.replies import is_whole


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of a sweep."""

    dead: list[tuple[str, list[int]]]
    """The actors to fence and recover, each with the channels in which it has claims."""
    due: list[int]
    """The channels with delayed tasks that are due."""


class Recovery(Calls):
    """The transitions by which tasks come back: of actors that are gone, and of delayed tasks that are due."""

    def sweep(self, channels: int) -> Sweep:
        """Find actors to recover and channels to promote. Empty if another actor swept within the last second."""
        keys = [self.keys.meta, self.keys.leases, self.keys.fleet, self.keys.desired_channels]
        for number in range(channels):
            channel = self.keys.channel(number)
            keys += [channel.delayed, channel.claim_counts, channel.waiting, channel.token]
        dead, due = self._call("sweep", keys)
        found = [
            (actor.decode("utf-8", "replace"), [int(text) for text in held_in.split(b",") if is_whole(text)])
            for actor, held_in in dead
        ]
        return Sweep(found, [int(channel) for channel in due])

    def recover(
        self, dead: str, reason: bytes, *, channels: int | None = None, claims_in: Sequence[int] | None = None
    ) -> int:
        """Fence an actor whose lease has ended, and requeue all tasks that it has claimed.

        `channels` is how many channels the namespace has (by default Redis is asked). `claims_in` are channels in which
        the actor probably has claims: this saves a call. Returns how many tasks were requeued or failed; 0 if the lease
        has not ended. A task that crashes for the third time fails with `reason` (msgpack).
        """
        if channels is None:
            channels = self.channels()
        # One call recovers one channel, and tells which other channels have claims.
        moved, left, recovered = 0, list(claims_in or [0])[:1], set[int]()
        while left:
            channel = left[0]
            count, elsewhere = self._recover_in(channel, dead, reason, channels)
            moved += count
            recovered.add(channel)
            left = [other for other in elsewhere if other not in recovered]
        return moved

    def _recover_in(self, channel: int, dead: str, reason: bytes, channels: int) -> tuple[int, list[int]]:
        """Recover an actor's tasks of one channel. Return how many, and the other channels in which it has claims."""
        at = self.keys.channel(channel)
        others = [number for number in range(channels) if number != channel]
        keys = [
            self.keys.actor(dead), self.keys.leases, self.keys.agents, at.agents, at.waiting, at.failed,
            at.failed_at, at.reasons, at.claim_counts, at.claims(dead), at.token, at.retry_reasons,
            at.traces, at.trace_uses,
        ]  # fmt: skip
        for number in others:
            keys += [self.keys.channel(number).agents, self.keys.channel(number).claim_counts]
        moved = 0
        while True:
            reply = self._call("recover", keys, dead, MAX_TASKS_PER_CALL, reason)
            if reply[0] == b"alive":
                return moved, []
            moved += int(reply[1]) + int(reply[2])
            if int(reply[3]) == 0:
                return moved, [others[int(place) - 1] for place in reply[4] if 0 < int(place) <= len(others)]

    def fence(self, actor: str) -> None:
        """Fence an actor whose process has certainly ended, so that the next sweep recovers its tasks."""
        self._call("fence", [self.keys.actor(actor), self.keys.leases], actor)

    def promote(self, channel: int) -> int:
        """Requeue delayed tasks that are due. Return how many."""
        at = self.keys.channel(channel)
        return int(self._call("promote", [at.delayed, at.waiting, at.token], MAX_TASKS_PER_CALL)[1])


def recover_and_promote(broker: Recovery, device: int | None, channels: int | None = None) -> int:
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
