"""Which channels an agent serves: all, or some by their numbers in the order in which they were named."""

from __future__ import annotations

from worker_agent.protocol.counts import is_count
from worker_agent.protocol.keys import MAX_CHANNELS

MAX_NAMED = 4

Served = tuple[int, ...] | None
"""The numbers of the channels; None for all channels of the namespace."""


def parse_served(text: str) -> Served:
    """Parse `all`, `0` or `0,2`. Raises `ValueError` with a sentence."""
    if text.strip() == "all":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
        raise ValueError(f"channels are numbers such as 0 or 0,2, or all, not {text[:40]!r}")
    channels = tuple(int(part) for part in parts)
    if len(set(channels)) < len(channels):
        raise ValueError(f"a channel is named twice in {text[:40]!r}")
    if max(channels) >= MAX_CHANNELS:
        raise ValueError(f"there are never more than {MAX_CHANNELS:,} channels")
    return channels


def numbers_text(value: object) -> str:
    """Return a channel's number, or a list of numbers, in the form that `parse_served` reads. '' for anything else."""
    numbers = list(value) if isinstance(value, list | tuple | range) else [value]
    return ",".join(map(str, numbers)) if all(is_count(number) for number in numbers) else ""


def served_text(served: Served) -> str:
    """Return the form that `parse_served` reads."""
    return "all" if served is None else ",".join(str(channel) for channel in served)


def served_numbers(served: Served, channels: int) -> tuple[int, ...]:
    """Return the numbers of the served channels of a namespace with `channels` channels."""
    return tuple(range(channels)) if served is None else tuple(c for c in served if c < channels)


def channel_names(channels: tuple[int, ...]) -> str:
    """Return `TaskChannel0`, `TaskChannel0, TaskChannel2`, or how many there are."""
    if len(channels) > MAX_NAMED:
        return f"{len(channels)} channels"
    return ", ".join(f"TaskChannel{channel}" for channel in channels) or "no channel"
