"""Requests to cancel running tasks, and the agents' answers to them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal, cast, get_args

from worker_agent.protocol import wire
from worker_agent.protocol.printable import printable

KEEP_MS = 60_000
"""How long a request to cancel a task is kept."""
_TIME_DIGITS = 13
_MAX_WHO_CHARACTERS = 100
_MAX_WHY_CHARACTERS = 500

CancelState = Literal["cancelled", "asked", "not_running"]
"""`cancelled`: the run ends now. `asked`: it ends if its function looks. `not_running`: the agent does not run it."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Somebody wants a running task to end. `asked` names the request, `who` is who asked."""

    asked: str
    id: str
    who: str

    @classmethod
    def new(cls, id_: str, who: str) -> CancelRequest:
        """Return a request with a name of its own."""
        return cls(secrets.token_hex(8), id_, printable(who, _MAX_WHO_CHARACTERS))

    def line(self) -> str:
        """Return the request as it travels."""
        return f"{self.asked} {self.id} {self.who}"


def parse_requests(text: str) -> tuple[CancelRequest, ...]:
    """Return the requests of an agent. Leaves out lines that are no requests."""
    found = []
    for line in text.split("\n"):
        words = line[_TIME_DIGITS + 1 :].split(" ", 2)
        if len(words) == 3 and all(words):
            found.append(CancelRequest(words[0], words[1], printable(words[2], _MAX_WHO_CHARACTERS)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What an agent did about a request. `why` says why the run does not end now, or is ''."""

    device: int
    state: CancelState
    why: str = ""

    def pack(self) -> bytes:
        """Return the answer as msgpack."""
        return wire.pack([self.device, self.state, self.why])


def parse_answer(data: bytes) -> CancelAnswer | None:
    """Return an agent's answer, or None if the data is none."""
    try:
        device, state, why = wire.unpack(data)
    except (wire.Undecodable, ValueError, TypeError):
        return None
    if type(device) is not int or state not in get_args(CancelState):
        return None
    return CancelAnswer(device, cast("CancelState", state), printable(str(why), _MAX_WHY_CHARACTERS))


def answers_name(asked: str) -> str:
    """Return the name under which the answers to a request are collected, beside those to detects."""
    return f"cancel-{asked}"
