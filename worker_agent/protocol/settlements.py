"""Settlements: the outcome of each claimed task, and how outcomes travel to `settle_and_claim.lua`."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

from worker_agent.protocol import list_item

DONE = b"d"
"""The task succeeded. Carries the list item of its result."""
SAVED = b"s"
"""The task succeeded, and a save function stored its result elsewhere. Carries nothing."""
FAILED = b"f"
"""The run failed. Carries what `failure` returns. The task runs again while its channel's policy allows it."""
UNDECODABLE = b"x"
"""The task cannot succeed in any run. Carries the reason. It fails at once, without retries."""
HANDED_BACK = b"b"
"""The task has not started and returns to its channel. Carries nothing."""
CRASHED = b"c"
"""The task's process died and the agent did not. Carries the reason. Counts a crash and uses up no retry."""

OUTCOMES = {
    "DONE": DONE,
    "SAVED": SAVED,
    "FAILED": FAILED,
    "UNDECODABLE": UNDECODABLE,
    "HANDED_BACK": HANDED_BACK,
    "CRASHED": CRASHED,
}
"""The outcomes by the names that the Lua scripts use for them (see `scripts.py`)."""

AS_POLICY = b"d"
"""A failed run after which the channel's policy decides."""
RETRY = b"r"
"""A failed run whose task asked to run again. It does so while it has retries left, whatever the error is."""
GIVE_UP = b"g"
"""A failed run after which the task does not run again."""

MODES = {"AS_POLICY": AS_POLICY, "RETRY": RETRY, "GIVE_UP": GIVE_UP}
"""How a failed run asks to go on, by the names that the Lua scripts use."""


def failure(reason: bytes, mode: bytes = AS_POLICY, after_ms: int | None = None, names: str = "") -> bytes:
    """Return what FAILED carries.

    `after_ms` is the delay that a task asked for with `RETRY`. None leaves it to the policy. `names` are the classes of
    the error, as `module:QualName`, for a policy that retries only some errors.
    """
    after = b"" if after_ms is None else b"%d" % after_ms
    return b"%b %b %b\0%b" % (
        mode,
        after,
        names.encode("utf-8", "backslashreplace").replace(b"\0", b""),
        reason,
    )


Settlement = tuple[int, int, bytes, bytes]
"""The number of the claim, the task's place in the claim (from 1), the outcome, and what the outcome carries."""


def encode_runs(settlements: Iterable[Settlement]) -> list[int | bytes]:
    """Return the settlements as arguments of `settle_and_claim.lua`.

    Tasks that are neighbours in a claim form a run: the claim's number, the place of the first task, one letter for
    each outcome, then what each outcome carries.
    """
    arguments: list[int | bytes] = []
    letters, letters_at = bytearray(), 0
    run_of = next_place = 0
    for claim, place, outcome, carried in sorted(settlements, key=itemgetter(0, 1)):
        if claim != run_of or place != next_place:
            if letters:
                arguments[letters_at] = bytes(letters)
                letters = bytearray()
            arguments += (claim, place, b"")
            run_of, letters_at = claim, len(arguments) - 1
        next_place = place + 1
        letters += outcome
        arguments.append(carried)
    if letters:
        arguments[letters_at] = bytes(letters)
    return arguments


def unsettled_items(claims: dict[bytes, bytes]) -> list[bytes]:
    """Return the items that an actor has claimed and not settled. `claims` are the fields of its claims' hash."""
    return [
        item
        for field, items in claims.items()
        if not field.endswith(b":open")
        for item, state in zip(list_item.unpack_items(items), claims[field + b":open"].decode(), strict=True)
        if state != "."
    ]
