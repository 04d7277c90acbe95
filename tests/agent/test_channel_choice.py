"""Which channel an agent claims from next."""

from __future__ import annotations

from collections import Counter

import pytest

from worker_agent.agent.channel_choice import ChannelChoice


def choice_of(channels: int, weights: tuple[float, ...] = (), *, strict: bool = False) -> ChannelChoice:
    choice = ChannelChoice(weights, strict=strict)
    choice.serve(tuple(range(channels)))
    return choice


def shares(choice: ChannelChoice, claims: int, waiting: dict[int, int], tasks: int = 10) -> Counter[int]:
    """Claim that often, with the same number of tasks in every channel all the time. Return the tasks of each."""
    taken: Counter[int] = Counter()
    for _ in range(claims):
        channel = choice.next()
        elsewhere = [waiting[other] for other in choice.others(channel)]
        claimed = min(tasks, waiting[channel])
        choice.claimed(channel, claimed, waiting[channel], elsewhere)
        taken[channel] += claimed
    return taken


def test_channels_share_claims_equally():
    assert shares(choice_of(3), 30, {0: 100, 1: 100, 2: 100}) == {0: 100, 1: 100, 2: 100}


def test_channels_share_claims_by_their_weights():
    assert shares(choice_of(2, (3.0, 1.0)), 40, {0: 100, 1: 100}) == {0: 300, 1: 100}


def test_a_channel_without_waiting_tasks_is_passed_over():
    assert set(shares(choice_of(3), 30, {0: 0, 1: 100, 2: 0})) <= {0, 1}
    assert shares(choice_of(3), 30, {0: 0, 1: 100, 2: 0})[1] >= 290


def test_a_channel_that_was_empty_gets_no_more_than_its_share_later():
    choice = choice_of(2)
    shares(choice, 100, {0: 100, 1: 0})
    # At most one claim of ten tasks less than half: the claim that finds the tasks is for the other channel.
    assert 90 <= shares(choice, 20, {0: 100, 1: 100})[1] <= 100


def test_strict_serves_a_channel_only_while_those_before_it_are_empty():
    choice = ChannelChoice(strict=True)
    choice.serve((2, 0))
    assert shares(choice, 10, {0: 100, 2: 100}) == {2: 100}
    assert set(shares(choice, 10, {0: 100, 2: 0})) <= {0, 2}
    assert choice.next() == 0


def test_a_channel_that_gave_no_tasks_is_tried_again_after_a_change():
    choice = choice_of(2)
    choice.claimed(0, 0, 5, [0])
    choice.gave_none(0)
    assert not choice.any_ready()
    choice.unblock()
    assert choice.any_ready()
    assert choice.next() == 0


@pytest.mark.parametrize("tokens", [[1], [0, 1], [9]])
def test_a_token_lets_a_channel_be_tried(tokens: list[int]):
    choice = choice_of(2)
    choice.claimed(0, 0, 0, [0])
    assert not choice.any_ready()
    choice.expect_tasks(tokens)
    assert choice.any_ready() == (tokens != [9])


def test_channels_that_are_served_no_more_are_forgotten():
    choice = choice_of(3)
    assert choice.serve((1,))
    assert not choice.serve((1,))
    assert (choice.next(), choice.others(1), choice.waiting_in_all()) == (1, (), 1)
