"""The supervisor: renews the server's lease, obeys wishes to the server, recovers, promotes, and keeps the history."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker_agent.protocol.actor import channel_of
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import LeaseLost, MutiTaskError, RedisUnavailable, Superseded
from worker_agent.protocol.identity import Identity, is_gone
from worker_agent.protocol.membership import identity_of
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.replies import to_dict

PERIOD_S = 1.0
LEAST_PERIOD_S = 0.05


class Supervisor(threading.Thread):
    """Every second until ended. a Redis that is away is waited for, other errors go to `on_error`."""

    def __init__(
        self,
        broker: Broker,
        who: str,
        channels: int,
        *,
        on_quit: Callable[[], None],
        on_skip: Callable[[int, int], bool],
        on_look: Callable[[Broker], None],
        on_lost: Callable[[str, MutiTaskError], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._broker = broker
        self._who = who
        self._channels = channels
        self._on_quit = on_quit
        self._on_skip = on_skip
        self._on_look = on_look
        self._on_lost = on_lost
        self._on_error = on_error
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._known: dict[str, Identity] = {}

    def wake(self) -> None:
        """Look at the wishes now."""
        self._wake.set()

    def end(self) -> None:
        """Renew no more."""
        self._ended.set()
        self._wake.set()

    def run(self) -> None:
        """Until ended."""
        while not self._ended.is_set():
            try:
                self._look_after()
            except RedisUnavailable:
                pass
            except Exception as error:
                # Also what nobody foresaw, such as a garbled namespace: a server that looks after nothing is none.
                if not self._ended.is_set():
                    self._on_error(error)
                return
            self._wake.wait(PERIOD_S)
            # A busy channel's tokens come by the hundred a second; wishes need no more than this.
            self._ended.wait(LEAST_PERIOD_S)
            self._wake.clear()

    def _look_after(self) -> None:
        actor = self._broker.actor.id
        try:
            sweep_due = self._broker.renew_server_lease()
            # Not only when a sweep is due: the agents' reports may be first to each of them.
            self._bury_the_gone()
            if sweep_due:
                self._recover()
            self._broker.sample_counters(self._channels)
            self._on_look(self._broker)
            self._obey()
        except (LeaseLost, Superseded) as error:
            self._on_lost(actor, error)

    def _recover(self) -> None:
        recovered = recover_and_promote(self._broker, None)
        if recovered:
            self._broker.append_event("warning", self._who, f"{recovered} tasks of a dead agent recovered")

    def _bury_the_gone(self) -> None:
        """An agent of this machine whose process has ended need not wait for its lease."""
        actors = {
            actor.decode("utf-8", "replace") for actor in self._broker.query("HVALS", self._broker.keys.agents)
        }
        self._known = {actor: identity for actor, identity in self._known.items() if actor in actors}
        for actor in actors:
            if channel_of(actor) is None:
                continue
            if actor not in self._known:
                self._known[actor] = identity_of(self._broker.actor_record(actor))
            if is_gone(self._known[actor]):
                self._broker.fence(actor)

    def _obey(self) -> None:
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
