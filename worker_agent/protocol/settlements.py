"""What an agent says of the tasks that it had claimed, and how that travels."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from worker_agent.protocol import wire

Settlement = tuple[int, int, bytes, bytes]
"""The number of the claim, the task's place in it (from 1), a letter, and what goes with it: `settle_and_claim.lua`."""


def in_runs(settlements: Iterable[Settlement]) -> list[int | bytes]:
    """The script's arguments: neighbours in a claim: its number, the first place, letters, what goes with each."""
    arguments: list[int | bytes] = []
    letters, letters_at = bytearray(), 0
    run_of = next_place = 0
    for claim, place, letter, with_it in sorted(settlements, key=itemgetter(0, 1)):
        if claim != run_of or place != next_place:
            if letters:
                arguments[letters_at] = bytes(letters)
                letters = bytearray()
            arguments += (claim, place, b"")
            run_of, letters_at = claim, len(arguments) - 1
        next_place = place + 1
        letters += letter
        arguments.append(with_it)
    if letters:
        arguments[letters_at] = bytes(letters)
    return arguments


def held_in(claims: dict[bytes, bytes]) -> list[bytes]:
    """The list items that an actor has claimed and not settled, from the fields of its claims."""
    return [
        item
        for field, items in claims.items()
        if not field.endswith(b":open")
        for item, letter in zip(wire.unpack_items(items), claims[field + b":open"].decode(), strict=True)
        if letter != "."
    ]
