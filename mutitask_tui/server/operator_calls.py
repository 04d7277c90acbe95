"""Sends calls to a namespace as a short-lived actor. Every command uses it, and the server's `exit` does too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from mutitask_tui.server.inspector import Inspector
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.errors import LeaseLost
from worker_agent.protocol.identity import this_process

T = TypeVar("T")


class Caller:
    """The calls of one person or program to a namespace.

    `url` is the address of Redis, `name` the namespace, and `source` the author in the event log: by default the
    host and the process id.
    """

    def __init__(self, url: str, name: str, source: str = "") -> None:
        identity = this_process()
        self.source = source or f"{identity.host}:{identity.pid}"
        self.reader = Inspector(url, name)
        self.url = url
        self._client = connect(url)
        self._broker: Broker | None = None
        self._lock = threading.RLock()

    def call(self, call: Callable[[Broker], T]) -> T:
        """Return the result of `call`. Registers a new actor if the record expired (after an hour without a call)."""
        with self._lock:
            if self._broker is None:
                self._broker = self._register()
            try:
                return call(self._broker)
            except LeaseLost:
                self._broker = self._register()
                return call(self._broker)

    def _register(self) -> Broker:
        # A repeated call keeps its number, so a command whose answer was lost acts only once.
        # A person who types the command again might make it act twice.
        broker = Broker(
            self._client,
            self.reader.name,
            Actor.operator(),
            address=self.reader.address,
            retry=RetryPolicy(max_tries=2),
        )
        broker.register_operator()
        return broker

    def agents(self) -> dict[int, str]:
        """Return the live agents: device number to actor id."""
        return {
            device.id: device.actor for device in self.reader.snapshot().devices if device.state != "offline"
        }
