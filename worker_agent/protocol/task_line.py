"""A line that a task printed or logged, as Redis keeps it: its time, channel, task and text as msgpack."""

from __future__ import annotations

from dataclasses import dataclass

from worker_agent.protocol import wire


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One line. `at_ms` is on the agent's clock, in ms since the epoch. `text` is untrusted."""

    at_ms: int
    channel: int
    id: str
    text: str


def pack_line(line: TaskLine) -> bytes:
    """Return the line as bytes."""
    return wire.pack([line.at_ms, line.channel, line.id, line.text])


def read_line(packed: bytes) -> TaskLine | None:
    """Return the line in these bytes, which anybody may have written. None if they hold none."""
    try:
        fields = wire.unpack(packed)
    except wire.Undecodable:
        return None
    if not isinstance(fields, list) or [type(field) for field in fields] != [int, int, str, str]:
        return None
    return TaskLine(*fields)
