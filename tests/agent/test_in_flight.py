"""The tasks in flight: which of them are settled, by which actor, and when the claim loop is woken."""

from __future__ import annotations

from collections import deque

import pytest

from worker_agent.execution.in_flight import HAND_BACK, InFlight
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.broker import Claim
from worker_agent.protocol.settlements import DONE

OUTCOME = (DONE, b"result")


def claim_of(count: int, number: int = 1, waiting: int = 0) -> Claim:
    """Return the claim of `count` tasks that an actor's call of this number made."""
    items = [list_item.header("testtest", at) + wire.pack(at) for at in range(count)]
    return Claim(items, number, waiting, 0)


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(slots=1)


def test_a_fenced_actors_tasks_are_neither_queued_again_nor_handed_back_by_its_successor(
    in_flight: InFlight,
) -> None:
    in_flight.add_claim(claim_of(4), 0)
    first = in_flight.take(0)
    assert first is not None
    taken = [in_flight.queue.popleft() for _ in range(3)]
    in_flight.drop_all()

    in_flight.put_back(taken)
    assert not in_flight.queue
    in_flight.queue.extend(taken)
    assert (in_flight.hand_back_queued(), in_flight.hand_back_running()) == ([], [])
    assert in_flight.finish(0, OUTCOME)
    assert in_flight.take_settlements() == []


def test_a_settlement_that_a_slot_adds_while_the_actor_is_replaced_is_dropped(in_flight: InFlight) -> None:
    class Interrupted(deque):  # type: ignore[type-arg]
        """The actor is fenced at the moment at which a slot adds its settlement."""

        def append(self, settlement: object) -> None:
            in_flight.drop_all()
            super().append(settlement)

    in_flight.add_claim(claim_of(1), 0)
    in_flight.take(0)
    in_flight.settlements = Interrupted()

    assert in_flight.finish(0, OUTCOME)
    in_flight.add_claim(claim_of(1), 0)

    assert in_flight.take_settlements() == []


def test_tasks_are_handed_back_by_their_claim_and_place(in_flight: InFlight) -> None:
    in_flight.add_claim(claim_of(2, number=7), 0)
    in_flight.add_claim(claim_of(1, number=8), 0)
    in_flight.take(0)

    assert in_flight.hand_back_queued() == [(7, 2, *HAND_BACK), (8, 1, *HAND_BACK)]
    assert in_flight.hand_back_running() == [(7, 1, *HAND_BACK)]


@pytest.mark.parametrize(("count", "waiting", "woken"), [(1, 0, False), (1, 5, True), (2, 0, True)])
def test_a_slot_that_takes_the_last_task_wakes_the_claim_loop_only_if_there_may_be_more(
    in_flight: InFlight, count: int, waiting: int, woken: bool
) -> None:
    in_flight.add_claim(claim_of(count, waiting=waiting), 0)
    for _ in range(count):
        in_flight.take(0)

    assert in_flight.wake.is_set() is woken


def test_an_unwanted_claim_is_handed_back_and_no_slot_sees_it(in_flight: InFlight) -> None:
    in_flight.hand_back_claim(claim_of(2, number=3), 0)

    assert not in_flight.queue
    assert in_flight.hand_back_count() == 2
    assert in_flight.take_settlements() == [(3, 1, *HAND_BACK), (3, 2, *HAND_BACK)]
    assert (in_flight.done, in_flight.errors) == (0, 0)
