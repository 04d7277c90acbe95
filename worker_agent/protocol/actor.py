"""Actors: one for each start of a process that calls scripts, and the numbering of its calls (law 3)."""

from __future__ import annotations

import secrets
import threading


class Actor:
    """The id of an agent (with its channel), of a server, or of an operator: a `ctl` or an `attach`.

    An actor has at most one numbered call in flight. Hold `call_lock` during such a call.
    """

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.call_lock = threading.Lock()
        self._number = 0

    @classmethod
    def agent(cls, channel: int) -> Actor:
        """Return a new agent's actor. Its id names the channel, whose keys a recovery needs."""
        return cls(f"a{channel}-{secrets.token_hex(8)}")

    @classmethod
    def server(cls) -> Actor:
        """Return a new server's actor."""
        return cls(f"s-{secrets.token_hex(8)}")

    @classmethod
    def operator(cls) -> Actor:
        """Return the actor of a command line or of an attached dashboard. It holds no lease."""
        return cls(f"c-{secrets.token_hex(8)}")

    def next_number(self) -> int:
        """Return the number of the next call. The number of an abandoned call is never used again."""
        self._number += 1
        return self._number


def channel_of(actor: str) -> int | None:
    """Return the channel that an agent's id names. None for other actors and for ids in another form."""
    head, dash, _ = actor.partition("-")
    if dash and head.startswith("a") and head[1:].isascii() and head[1:].isdigit():
        return int(head[1:])
    return None
