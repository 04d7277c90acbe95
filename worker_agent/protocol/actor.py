"""One start of a process that calls mutating scripts, and the numbering of its calls (law 3)."""

from __future__ import annotations

import secrets
import threading


class Actor:
    """An id of its own for an agent (with its channel), a server, or a passing `ctl` or `attach`.

    One numbered call is in flight at a time: hold `call` while it is.
    """

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.call_lock = threading.Lock()
        self._number = 0

    @classmethod
    def agent(cls, channel: int) -> Actor:
        """A new agent's actor. The id names the channel, so that whoever recovers it knows its keys."""
        return cls(f"a{channel}-{secrets.token_hex(8)}")

    @classmethod
    def server(cls) -> Actor:
        """A new server's actor."""
        return cls(f"s-{secrets.token_hex(8)}")

    @classmethod
    def operator(cls) -> Actor:
        """The actor of a command line or an attached dashboard, which holds no lease."""
        return cls(f"c-{secrets.token_hex(8)}")

    def next_number(self) -> int:
        """The number of the next call. A call that was given up keeps its number, and is never repeated."""
        self._number += 1
        return self._number


def channel_of(actor: str) -> int | None:
    """The channel that an agent's id names; None for other actors and for ids that are not ours."""
    head, dash, _ = actor.partition("-")
    if dash and head.startswith("a") and head[1:].isascii() and head[1:].isdigit():
        return int(head[1:])
    return None
