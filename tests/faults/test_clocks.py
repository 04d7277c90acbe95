"""Clocks that jump: leases, delays and recovery use no device's clock, and a jump of Redis's clock loses no task."""

from __future__ import annotations

import pytest

from tests.crashes.fleet import Fleet
from tests.protocol.world import World, reason, saved
from tests.support.waiting import wait_until

COUNT = 900
HOUR_MS = 3_600_000

JUMPING = f"""
import random, time

# In every process that loads this job, server and agents, each reading of the clock is wrong by up to a year.
true_time = time.time
time.time = lambda: true_time() + random.uniform(-31e6, 31e6)

runs = {{}}

def tasks():
    yield from range({COUNT})

def task_function(task):
    runs[task] = runs.get(task, 0) + 1
    if task % 100 == 7 and runs[task] == 1:
        return None
    time.sleep(0.001)
    return task
"""


def test_machines_whose_clocks_jump_by_months_lose_no_lease_and_keep_their_delays(fleet: Fleet) -> None:
    fleet.job(JUMPING)
    server = fleet.serve("--lease", "2", "--capacity", "100", "--retry-delay", "1")
    agents = [fleet.agent("--device", str(device)) for device in range(2)]

    results = fleet.expect_each_once(list(range(COUNT)))

    assert {recorded.crashes for recorded in results} == {0}
    assert {recorded.number % 100 for recorded in results if recorded.attempt} == {7}
    for program in (server, *agents):
        assert program.running, program
        assert "was fenced" not in program.stderr


def test_a_dead_agent_of_a_machine_whose_clock_jumps_is_recovered_when_its_lease_ends(fleet: Fleet) -> None:
    fleet.job(JUMPING)
    fleet.serve("--lease", "2", "--capacity", "400")
    victim = fleet.agent("--device", "0")
    fleet.wait_for(lambda counters: counters.done >= 100)
    fleet.freeze_with_claims(victim)
    actor = fleet.actor_of(victim)
    ends_ms = fleet.client.zscore(fleet.keys.leases, actor)
    fleet.agent("--device", "1")

    wait_until(lambda: not fleet.client.exists(fleet.at().claims(actor)), what="its tasks are recovered")

    seconds, micros = fleet.client.time()
    assert 0 <= seconds * 1000 + micros // 1000 - ends_ms < 4_000
    victim.kill()
    results = fleet.expect_each_once(list(range(COUNT)))
    assert {recorded.crashes for recorded in results} == {0, 1}


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS], ids=["an hour on", "an hour back"])
def test_redis_own_clock_may_jump_and_no_agent_with_heartbeats_is_fenced(world: World, jump_ms: int) -> None:
    """Scripts use only stored times and TIME. So moving the stored times back has the same effect as moving TIME on."""
    agent = world.agent(0)
    world.feed(4)
    ids = world.claim(agent, 4)
    world.server.sweep(2)
    for key in (world.keys.leases, world.at.agents):
        for member, at_ms in world.client.zrange(key, 0, -1, withscores=True):
            world.client.zadd(key, {member: at_ms - jump_ms})
    swept = int(world.client.hget(world.keys.fleet, "swept_ms"))
    world.client.hset(world.keys.fleet, "swept_ms", swept - jump_ms)

    found = world.server.sweep(2)

    assert found.dead == []
    assert world.server.recover(agent.actor.id, reason("crashed")) == 0
    assert world.settle(agent, *(part for id_ in ids for part in saved(id_))).refused == 0
    assert world.balanced()
