"""The bodies of the tasks that one actor claims and settles: fetched with a claim, removed once a task is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker_agent.protocol import list_item
from worker_agent.protocol.bodies import APART_BYTES, Bodies, all_inline, body_of, result_ending
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.settlements import DONE, SAVED, Settlement


class TaskBodies:
    """Remembers which claimed tasks have their body apart, so that it goes once the task is done."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._held: dict[tuple[int, int], bytes] = {}
        """By the claim's number and the place in it: the key of a claimed task's body."""

    def store_results(
        self, channel: int, settlements: Iterable[Settlement], actor: str, retry: RetryPolicy
    ) -> Sequence[Settlement]:
        """Store large results, and return the settlements with small ones in their place.

        A result that Redis refuses for lack of memory stays inline: the script that settles it frees memory first.
        """
        settled = settlements if isinstance(settlements, list) else list(settlements)
        large = [
            place
            for place, settlement in enumerate(settled)
            if len(settlement[3]) >= APART_BYTES and settlement[2] == DONE
        ]
        if not large:
            return settled
        bodies: dict[bytes, bytes | memoryview] = {}
        small: dict[int, tuple[bytes, bytes]] = {}
        for place in large:
            item = settled[place][3]
            apart = list_item.apart(item, result_ending(actor))
            (key,) = self._bodies.keys(channel, [apart])
            bodies[key], small[place] = body_of(item), (key, apart)
        refused = retry(lambda: self._bodies.store(bodies))
        settled = list(settled)
        for place, (key, apart) in small.items():
            if key not in refused:
                settled[place] = (*settled[place][:3], apart)
        return settled

    def ended(self, settlements: Sequence[Settlement], *, refused: bool) -> list[bytes]:
        """Forget the bodies of settled tasks, and return those that no list names any more.

        With a refused settlement, it is not known which of the tasks has ended: the sweep finds out.
        """
        if not self._held:
            return []
        gone = []
        for claim, place, outcome, _ in settlements:
            key = self._held.pop((claim, place), None)
            if key is not None and outcome in (DONE, SAVED) and not refused:
                gone.append(key)
        return gone

    def fetch(
        self, channel: int, claim: int, items: list[bytes], unlink: Sequence[bytes], retry: RetryPolicy
    ) -> list[bytes]:
        """Return the items of a claim with their bodies inline, and remove the bodies `unlink`.

        An item whose body is missing stays as it is.
        """
        if all_inline(items):
            if unlink:
                self._bodies.unlink(unlink)
            return items
        places = [self._bodies.place(channel, item) for item in items]
        self._held |= {
            (claim, number): place.key for number, place in enumerate(places, 1) if place is not None
        }
        found: dict[bytes, bytes] = {}
        return retry(lambda: self._bodies.inline_at(places, items, found, unlink))
