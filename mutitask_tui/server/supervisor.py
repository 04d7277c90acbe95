"""Runs the server's background duties every second: lease, recovery, promotion, history, desired state."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker_agent.protocol.actor import is_agent
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import LeaseLost, MutiTaskError, RedisUnavailable, Superseded
from worker_agent.protocol.identity import Identity, is_gone
from worker_agent.protocol.membership import identity_of
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.replies import to_dict

PERIOD_S = 1.0
MIN_PERIOD_S = 0.05


class Supervisor(threading.Thread):
    """Runs every second until it is stopped.

    `source` is the author in the event log. `on_tick` is called in every round. `on_quit` and
    `on_skip(channel, number)` are called if a command asked for it. If the actor is fenced,
    `on_actor_lost(actor, error)` registers a new actor or raises. The supervisor waits for a Redis that is away. Other
    errors go to `on_error`.
    """

    def __init__(
        self,
        broker: Broker,
        source: str,
        channels: int,
        *,
        on_quit: Callable[[], None],
        on_skip: Callable[[int, int], bool],
        on_tick: Callable[[Broker], None],
        on_actor_lost: Callable[[str, MutiTaskError], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._broker = broker
        self._source = source
        self._channels = channels
        self._on_quit = on_quit
        self._on_skip = on_skip
        self._on_tick = on_tick
        self._on_actor_lost = on_actor_lost
        self._on_error = on_error
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._known: dict[str, Identity] = {}
        """The identities of the live agents, by actor."""

    def wake(self) -> None:
        """Run the next round now."""
        self._wake.set()

    def stop(self) -> None:
        """Run no further round."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Run rounds until stopped."""
        while not self._stopped.is_set():
            try:
                self._tick()
            except RedisUnavailable:
                pass
            except Exception as error:
                # Unforeseen errors too, such as a damaged namespace: a server whose supervisor has died is useless.
                if not self._stopped.is_set():
                    self._on_error(error)
                return
            self._wake.wait(PERIOD_S)
            # A busy channel sends hundreds of tokens a second. Desired states need fewer rounds.
            self._stopped.wait(MIN_PERIOD_S)
            self._wake.clear()

    def _tick(self) -> None:
        actor = self._broker.actor.id
        try:
            sweep_due = self._broker.renew_server_lease()
            # In every round, not only if a sweep is due: the agents' heartbeats may always be the first to sweep.
            self._fence_ended_agents()
            if sweep_due:
                self._recover()
            self._broker.sample_counters(self._channels)
            self._on_tick(self._broker)
            self._reconcile()
        except (LeaseLost, Superseded) as error:
            self._on_actor_lost(actor, error)

    def _recover(self) -> None:
        recovered = recover_and_promote(self._broker, None)
        if recovered:
            self._broker.append_event("warning", self._source, f"{recovered} tasks of a dead agent recovered")

    def _fence_ended_agents(self) -> None:
        """Fence agents of this machine whose process has ended, so that nobody waits for their leases."""
        actors = {
            actor.decode("utf-8", "replace")
            for actor in self._broker.query("HVALS", self._broker.keys.agents)
        }
        self._known = {actor: identity for actor, identity in self._known.items() if actor in actors}
        for actor in actors:
            if is_agent(actor) and actor not in self._known:
                self._known[actor] = identity_of(self._broker.actor_record(actor))
        # Several agents may share a process, and a look at one takes longer than all else here.
        gone = {identity for identity in set(self._known.values()) if is_gone(identity)}
        for actor in [actor for actor, identity in self._known.items() if identity in gone]:
            self._broker.fence(actor)

    def _reconcile(self) -> None:
        """Carry out `exit` and `skip_item` if a command has written them as desired state."""
        keys = self._broker.keys
        if self._broker.query("HGET", keys.desired_server, "quit") == self._broker.actor.id.encode():
            self._on_quit()
        for field, value in to_dict(self._broker.query("HGETALL", keys.desired_channels)).items():
            name, _, channel = field.decode("utf-8", "replace").partition(":")
            if (
                name == "skip"
                and channel.isascii()
                and channel.isdigit()
                and value.isdigit()
                and self._on_skip(int(channel), int(value))
            ):
                self._broker.query("HDEL", keys.desired_channels, field)
