"""Rates in the claim script: exact over all agents by Redis's clock, with bursts of one second's worth."""

from __future__ import annotations

import pytest
import redis

from tests.protocol.world import World, handed_back


def world_with(client: redis.Redis, rate: str, **plan: object) -> World:
    return World(client, rates={"rate:0": rate}, capacity=100_000, **plan)


def test_a_burst_is_one_seconds_worth_and_at_least_one_task(client: redis.Redis) -> None:
    for rate, burst in (("10 1000", 10), ("1 1000", 1), ("30 60000", 1), ("7 3600000", 1), ("500 1000", 500)):
        client.flushall()
        world = world_with(client, rate)
        world.feed(600)
        claim = world.agent().settle_and_claim(0, [], 1_000)
        assert len(claim.items) == burst
        assert claim.limited_ms > 0 and claim.waiting == 600 - burst


@pytest.mark.parametrize("agents", [1, 3])
def test_the_rate_is_kept_over_all_agents(client: redis.Redis, agents: int) -> None:
    world = world_with(client, "2000 1000")
    world.feed(10_000)
    fleet = [world.agent(device) for device in range(2)] if agents > 1 else [world.agent()]
    began, claimed = world.server.now_ms(), 0
    while claimed < 5_000:
        for agent in fleet:
            claimed += len(world.claim(agent, 700))
    elapsed = world.server.now_ms() - began
    allowed = 2_000 + elapsed * 2
    assert claimed <= allowed + 4
    assert claimed >= 0.9 * allowed - 700


def test_the_next_task_is_announced_and_then_given(client: redis.Redis) -> None:
    world = world_with(client, "2 1000")
    agent = world.agent()
    world.feed(100)
    assert len(world.claim(agent)) == 2
    limited = agent.settle_and_claim(0, [], 10)
    assert limited.items == [] and 0 < limited.limited_ms <= 1_000
    due = agent.now_ms() + limited.limited_ms
    while agent.now_ms() < due:
        pass
    assert world.claim(agent, 10) != []


def test_no_token_wakes_agents_for_tasks_that_the_rate_holds_back(client: redis.Redis) -> None:
    world = world_with(client, "1 1000")
    agent = world.agent()
    world.feed(5)
    client.delete(world.at.token)
    assert len(world.claim(agent)) == 1
    assert client.llen(world.at.token) == 0


def test_tasks_that_are_handed_back_used_up_nothing(client: redis.Redis) -> None:
    world = world_with(client, "5 1000")
    agent = world.agent()
    world.feed(20)
    claimed = world.claim(agent)
    assert len(claimed) == 5
    world.settle(agent, *(part for id_ in claimed for part in handed_back(id_)))
    assert len(world.claim(agent)) == 5


def test_a_new_rate_holds_from_the_next_call_on(client: redis.Redis) -> None:
    world = world_with(client, "1 3600000")
    agent, ctl = world.agent(), world.operator()
    world.feed(50)
    assert len(world.claim(agent)) == 1
    assert world.claim(agent) == []
    ctl.set_desired(world.keys.desired_channels, {"rate:0": "1000 1000"})
    assert 0 < agent.settle_and_claim(0, [], 10).limited_ms <= 2, "no longer an hour"
    due = agent.now_ms() + 20
    while agent.now_ms() < due:
        pass
    assert len(world.claim(agent)) > 5
    ctl.set_desired(world.keys.desired_channels, {"rate:0": ""})
    claim = agent.settle_and_claim(0, [], 1_000)
    assert claim.waiting == 0 and claim.limited_ms == 0


@pytest.mark.parametrize("written", ["nan", "inf", "-inf", "1e300", "-1e300", "", "words"])
def test_what_an_agent_wrote_into_the_rates_place_stops_nobody_for_long(
    client: redis.Redis, written: str
) -> None:
    world = world_with(client, "1000 1000")
    agent = world.agent()
    world.feed(1_100)
    client.hset(world.at.agent_counters, "rate_ms", written)
    claimed, due = 0, agent.now_ms() + 200
    while not claimed and agent.now_ms() < due:
        claimed = len(world.claim(agent))
    assert 0 < claimed <= 1_000


def test_other_channels_are_not_limited(client: redis.Redis) -> None:
    world = world_with(client, "1 1000")
    agent = world.agent(0, None)
    world.feed(5)
    world.feed(5, channel=1)
    assert len(world.claim(agent)) == 1
    assert len(world.claim(agent, channel=1)) == 5
