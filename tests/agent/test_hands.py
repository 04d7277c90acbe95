"""What an agent has in hand: which of it is settled, by which actor, and when the claimer is woken."""

from __future__ import annotations

from collections import deque

import pytest

from worker_agent.execution.in_flight import HAND_BACK, Hands
from worker_agent.protocol import wire
from worker_agent.protocol.broker import Claim

DONE = (b"d", b"result")


def claim_of(count: int, number: int = 1, waiting: int = 0) -> Claim:
    """Tasks that were claimed by an actor's call of that number."""
    items = [wire.header("testtest", at) + wire.pack(at) for at in range(count)]
    return Claim(items, number, waiting, 0)


@pytest.fixture
def hands() -> Hands:
    return Hands(slots=1)


def test_what_a_former_actor_claimed_is_neither_run_again_nor_handed_back_by_the_next(hands: Hands) -> None:
    hands.feed(claim_of(4))
    first = hands.take(0)
    assert first is not None
    behind = [hands.queue.popleft() for _ in range(3)]
    hands.drop_all()

    hands.put_back(behind)
    assert not hands.queue
    hands.queue.extend(behind)
    assert (hands.take_back(), hands.take_back_begun()) == ([], [])
    assert hands.finish(0, DONE)
    assert hands.take_settlements() == []


def test_what_a_slot_reports_in_the_very_moment_of_a_new_actor_is_dropped(hands: Hands) -> None:
    class Interrupted(deque):  # type: ignore[type-arg]
        """The actor is declared dead where a slot is about to add its settlement."""

        def append(self, settlement: object) -> None:
            hands.drop_all()
            super().append(settlement)

    hands.feed(claim_of(1))
    hands.take(0)
    hands.settlements = Interrupted()

    assert hands.finish(0, DONE)
    hands.feed(claim_of(1))

    assert hands.take_settlements() == []


def test_what_has_not_begun_is_handed_back_by_its_claim_and_place(hands: Hands) -> None:
    hands.feed(claim_of(2, number=7))
    hands.feed(claim_of(1, number=8))
    hands.take(0)

    assert hands.take_back() == [(7, 2, *HAND_BACK), (8, 1, *HAND_BACK)]
    assert hands.take_back_begun() == [(7, 1, *HAND_BACK)]


@pytest.mark.parametrize(("count", "waiting", "woken"), [(1, 0, False), (1, 5, True), (2, 0, True)])
def test_a_slot_that_takes_the_last_task_wakes_the_claimer_only_where_more_may_be_had(
    hands: Hands, count: int, waiting: int, woken: bool
) -> None:
    hands.feed(claim_of(count, waiting=waiting))
    for _ in range(count):
        hands.take(0)

    assert hands.nudge.is_set() is woken


def test_what_came_too_late_is_handed_back_and_no_slot_sees_it(hands: Hands) -> None:
    hands.hand_back(claim_of(2, number=3))

    assert not hands.queue
    assert hands.handing_back() == 2
    assert hands.take_settlements() == [(3, 1, *HAND_BACK), (3, 2, *HAND_BACK)]
    assert (hands.done, hands.errors) == (0, 0)
