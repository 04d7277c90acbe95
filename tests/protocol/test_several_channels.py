"""The laws for an agent that serves several channels. `test_counters_balance.py` tests them with random calls too."""

from __future__ import annotations

import pytest
import redis

from tests.protocol.tap import dump
from tests.protocol.world import (
    ById,
    World,
    crashed,
    done,
    failed,
    handed_back,
    id_of,
    reason,
    result_of,
    saved,
)
from worker_agent.protocol import PROTOCOL
from worker_agent.protocol.actor import Actor, is_agent
from worker_agent.protocol.errors import LeaseLost, VersionMismatch
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.membership import DesiredState
from worker_agent.protocol.recovery import recover_and_promote


def sweep_now(world: World, *, channels: int = 2) -> list[tuple[str, list[int]]]:
    """Sweep a second after the last sweep. Return the actors to recover, each with the channels of its claims."""
    world.client.hset(world.keys.fleet, "swept_ms", world.server.now_ms() - 1_001)
    return world.server.sweep(channels).dead


def agents_of(world: World, channel: int) -> set[bytes]:
    """Return the agents that a channel counts."""
    return set(world.client.zrange(world.keys.channel(channel).agents, 0, -1))


def claimed(world: World, agent: ById) -> list[list[str]]:
    """Return the ids of the tasks that an agent has claimed, by channel."""
    return [
        [id_of(item) for item in world.claimed_items(agent, channel)]
        for channel in range(world.plan["channels"])
    ]


@pytest.fixture
def both(world: World) -> ById:
    """Return an agent that serves both channels. It has claimed two of the four tasks of each of them."""
    agent = world.agent(0, None)
    for channel in range(2):
        world.feed(4, channel)
        assert len(world.claim(agent, 2, channel=channel)) == 2
    return agent


# One actor has claims in two channels (laws 1, 2 and 3)


def test_the_tasks_of_each_channel_are_settled_in_their_channel(world: World, both: ById) -> None:
    (a, b), (c, d) = claimed(world, both)
    assert (a, b) == (c, d), "channels number their tasks alike"
    world.settle(both, *done(a, "zero"), *failed(b), channel=0)
    assert claimed(world, both) == [[], [c, d]]
    world.settle(both, *saved(c), *done(d, "one"), channel=1)
    assert claimed(world, both) == [[], []]
    assert world.results(0) == [result_of(a, "zero")] and world.results(1) == [result_of(d, "one")]
    assert (world.counters(0)["done"], world.counters(1)["done"]) == ("1", "2")
    for channel in range(2):
        assert world.client.hgetall(world.keys.channel(channel).claim_counts) == {}
        assert world.balanced(channel)


def test_claims_of_all_channels_have_different_numbers(world: World, both: ById) -> None:
    names = [
        name
        for channel in range(2)
        for name in world.client.hkeys(world.keys.channel(channel).claims(both.actor.id))
    ]
    assert len(names) == len(set(names)) == 4


def test_a_settlement_in_another_channel_is_refused_and_changes_nothing(world: World, both: ById) -> None:
    (a, _), _ = claimed(world, both)
    place = both.place_of(0, a)
    both.places[1, "stray000000000000000"] = place
    claim = world.settle(both, *done("stray000000000000000"), channel=1)
    assert claim.refused == 1
    assert claimed(world, both)[0][0] == a
    assert world.results(0) == world.results(1) == []
    assert world.balanced(0) and world.balanced(1)


def test_tasks_are_handed_back_to_their_channels(world: World, both: ById) -> None:
    before = [world.waiting(channel) for channel in range(2)]
    held = claimed(world, both)
    for channel in (1, 0):
        world.settle(both, *(part for id_ in held[channel] for part in handed_back(id_)), channel=channel)
    assert [world.waiting(channel) for channel in range(2)] == [
        held[channel] + before[channel] for channel in range(2)
    ]
    assert claimed(world, both) == [[], []]


def test_a_call_sent_again_returns_the_same_tasks_and_the_present_counts(world: World, both: ById) -> None:
    (a, _), _ = claimed(world, both)
    claim = both.settle_and_claim(0, done(a, "once"), 1, others=[1], held_elsewhere=2)
    sent = world.last()
    world.feed(1, 1)
    before = dump(world.client)
    again = sent.send(world.client)
    assert again[1:3] == [claim.refused, claim.waiting] and int(again[4]) == claim.number
    assert (claim.waiting_elsewhere, again[5]) == ((2,), [3])
    assert dump(world.client) == before


@pytest.mark.parametrize("channel", [0, 1])
def test_a_late_copy_is_stale_whichever_channel_the_later_call_was_for(
    world: World, both: ById, channel: int
) -> None:
    world.claim(both, 1, channel=0)
    late = world.last()
    world.claim(both, 1, channel=channel)
    before = dump(world.client)
    assert late.send(world.client) == [b"stale"]
    assert dump(world.client) == before


# Recovery (laws 2 and 8)


def test_a_dead_agents_tasks_are_recovered_in_every_channel(world: World, both: ById) -> None:
    other = world.agent(1)
    world.expire(both)
    assert sweep_now(world) == [(both.actor.id, [0, 1])]
    assert other.recover(both.actor.id, reason("crashed")) == 4
    assert claimed(world, both) == [[], []]
    assert world.client.zscore(world.keys.leases, both.actor.id) is None
    for channel in range(2):
        crashes = [item[24:25] for item in world.client.lrange(world.keys.channel(channel).waiting, 0, -1)]
        assert crashes == [b"0", b"0", b"1", b"1"]
        assert world.client.hgetall(world.keys.channel(channel).claim_counts) == {}
        assert world.balanced(channel)
    assert agents_of(world, 0) == {other.actor.id.encode()} and agents_of(world, 1) == set()
    assert sweep_now(world) == []
    for channel in range(2):
        with pytest.raises(LeaseLost):
            world.claim(both, channel=channel)


@pytest.mark.parametrize("claims_in", [None, [], [0], [1], [0, 1], [1, 0]])
def test_recovery_finds_all_channels_whatever_the_caller_knows(
    world: World, both: ById, claims_in: list[int] | None
) -> None:
    world.expire(both)
    assert world.server.recover(both.actor.id, reason("crashed"), claims_in=claims_in) == 4
    assert claimed(world, both) == [[], []]
    assert sweep_now(world) == []


def test_an_actor_is_recovered_from_the_last_of_many_channels(client: redis.Redis) -> None:
    world = World(client, channels=40)
    agent, other = world.agent(0, None), world.agent(1, (3,))
    for channel in (7, 39):
        world.feed(1, channel)
        world.claim(agent, channel=channel)
    world.expire(agent)
    assert sweep_now(world, channels=40) == [(agent.actor.id, [7, 39])]
    client.hset(world.keys.fleet, "swept_ms", other.now_ms() - 1_001)
    calls = len(world.tap.log)
    assert recover_and_promote(other, 1) == 2
    assert [call.name for call in world.tap.log[calls:]] == ["sweep", "recover", "recover"]
    assert [channel for channel in range(40) if agents_of(world, channel)] == [3]


@pytest.mark.parametrize("first", [0, 1])
def test_a_recoverer_that_dies_between_two_channels_leaves_nothing_claimed(
    world: World, both: ById, first: int
) -> None:
    other = world.agent(1)
    world.expire(both)
    one = world.capture(lambda: other.recover(both.actor.id, reason("crashed"), claims_in=[first]))
    assert one.send(world.client) == [b"ok", 2, 0, 0, [1]]
    assert [len(ids) for ids in claimed(world, both)] == ([0, 2] if first == 0 else [2, 0])
    with pytest.raises(LeaseLost):
        world.settle(both, channel=1 - first)

    assert sweep_now(world) == [(both.actor.id, [1 - first])]
    world.client.hset(world.keys.fleet, "swept_ms", other.now_ms() - 1_001)
    assert recover_and_promote(other, 1) == 2
    assert claimed(world, both) == [[], []]
    assert one.send(world.client) == [b"ok", 0, 0, 0, []]
    assert sweep_now(world) == []
    assert world.balanced(0) and world.balanced(1)


def test_claims_whose_actor_has_neither_lease_nor_record_are_found_in_every_channel(
    world: World, both: ById
) -> None:
    world.client.zrem(world.keys.leases, both.actor.id)
    world.client.delete(world.keys.actor(both.actor.id))
    assert sweep_now(world) == [(both.actor.id, [0, 1])]
    assert world.server.recover(both.actor.id, reason("crashed"), channels=2, claims_in=[0, 1]) == 4
    assert sweep_now(world) == []


def test_an_agent_leaves_every_channel_and_its_tasks_are_recovered(world: World, both: ById) -> None:
    both.leave(0, 2)
    assert agents_of(world, 0) == agents_of(world, 1) == set()
    assert both.actor_on(0) == ""
    for channel in range(2):
        with pytest.raises(LeaseLost):
            world.settle(both, channel=channel)
    assert sweep_now(world) == [(both.actor.id, [0, 1])]
    assert world.server.recover(both.actor.id, reason("left")) == 4
    assert world.balanced(0) and world.balanced(1)


@pytest.mark.parametrize("channel", [0, 1])
def test_an_agent_that_leaves_with_claims_in_one_channel_keeps_its_lease_for_the_sweep(
    world: World, channel: int
) -> None:
    agent = world.agent(0, None)
    world.feed(1, channel)
    world.claim(agent, channel=channel)
    agent.leave(0, 2)
    assert world.client.zscore(world.keys.leases, agent.actor.id) == 0
    assert sweep_now(world) == [(agent.actor.id, [channel])]


def test_an_agent_that_knew_of_fewer_channels_when_it_left_is_found_all_the_same(
    world: World, both: ById
) -> None:
    world.settle(both, *(part for id_ in claimed(world, both)[0] for part in done(id_)))
    both.leave(0, 1)
    assert sweep_now(world) == [(both.actor.id, [1])]
    assert world.server.recover(both.actor.id, reason("left")) == 2
    assert agents_of(world, 1) == set()


# A task that crashed runs alone (law 9)


def crash_one(world: World, channel: int) -> str:
    """Feed a channel with a task that crashed once. Return its id."""
    agent = world.agent(9, (channel,))
    [id_] = world.feed(1, channel)
    assert world.claim(agent, channel=channel) == [id_]
    world.settle(agent, *crashed(id_), channel=channel)
    agent.leave(9, 2)
    return id_


def test_a_task_that_crashed_is_not_claimed_beside_tasks_of_another_channel(world: World) -> None:
    agent = world.agent(0, None)
    killer = crash_one(world, 0)
    fresh = world.feed(2, 0)
    [other] = world.feed(1, 1)
    assert world.claim(agent, channel=1) == [other]
    for _ in range(2):
        claim = agent.settle_and_claim(0, [], 9, held_elsewhere=1)
        assert (claim.items, claim.waiting, claim.next_crashed) == ([], 3, True)
        assert world.waiting() == [killer, *fresh]
    assert not agent.settle_and_claim(0, [], 0, held_elsewhere=1).next_crashed, "nothing was wanted"
    world.settle(agent, *done(other), channel=1)
    claim = agent.settle_and_claim(0, [], 9)
    assert [id_of(item) for item in claim.items] == [killer], "alone"
    assert not claim.next_crashed
    assert world.claim(agent) == []
    world.settle(agent, *done(killer))
    assert world.claim(agent) == fresh
    assert world.balanced(0) and world.balanced(1)


def test_fresh_tasks_before_one_that_crashed_are_claimed_beside_those_of_another_channel(
    world: World,
) -> None:
    agent = world.agent(0, None)
    world.feed(1, 1)
    world.claim(agent, channel=1)
    killer = crash_one(world, 0)
    fresh = world.feed(2)
    world.client.rpush(world.at.waiting, world.client.lpop(world.at.waiting))
    assert world.waiting() == [*fresh, killer]
    claim = agent.settle_and_claim(0, [], 9, held_elsewhere=1)
    assert ([id_of(item) for item in claim.items], claim.next_crashed) == (fresh, True)
    assert world.waiting() == [killer]


def test_only_the_killer_among_two_channels_reaches_three_crashes(world: World) -> None:
    killer, *_ = world.feed(3, 0)
    world.feed(3, 1)
    for device in range(20):
        agent = world.agent(device, None)
        for channel in (1, 0):
            held = [item for number in range(2) for item in world.claimed_items(agent, number)]
            if not any(item[24:25] != b"0" for item in held):
                world.claim(agent, channel=channel, held_elsewhere=len(held))
        ids = claimed(world, agent)
        if killer in ids[0]:
            world.expire_and_recover(agent)
            continue
        for channel in range(2):
            world.settle(agent, *(part for id_ in ids[channel] for part in done(id_)), channel=channel)
        agent.leave(device, 2)
    assert world.client.hkeys(world.at.failed) == [killer.encode()]
    assert (world.counters(0)["done"], world.counters(1)["done"]) == ("2", "3")
    assert world.balanced(0) and world.balanced(1)


# What waits elsewhere


def test_a_claim_tells_how_many_tasks_wait_in_other_channels(client: redis.Redis) -> None:
    world = World(client, channels=4)
    agent, ctl = world.agent(0, None), world.operator()
    for channel, count in enumerate((1, 2, 3, 4)):
        world.feed(count, channel)
    ctl.set_desired(world.keys.desired_channels, {"2": "paused"})
    assert agent.settle_and_claim(0, [], 0).waiting_elsewhere == ()
    assert agent.settle_and_claim(0, [], 0, others=[3, 2, 1]).waiting_elsewhere == (4, 0, 2)
    ctl.set_desired(world.keys.desired_channels, {"2": ""})
    [item] = agent.settle_and_claim(0, [], 1, others=[2]).items
    claim = agent.settle_and_claim(2, [], 1, others=[0, 1, 3])
    assert (claim.waiting, claim.waiting_elsewhere) == (2, (0, 2, 4))
    assert agent.settle_and_claim(0, done(id_of(item)), 1, others=[2]).waiting_elsewhere == (2,)


def test_a_claim_can_ask_about_more_channels_than_lua_unpacks_at_once(client: redis.Redis) -> None:
    """Lua's `unpack` returns fewer than 8,000 values."""
    channels = 10_000
    world = World(client)
    agent = world.agent()
    world.feed(1)
    client.rpush(world.keys.channel(channels - 1).waiting, "x", "y")
    client.rpush(world.keys.channel(999).waiting, "x")
    client.rpush(world.keys.channel(1_001).waiting, "x")
    client.hset(world.keys.desired_channels, "1001", "paused")
    claim = agent.settle_and_claim(0, [], 1, others=range(1, channels))
    assert len(claim.items) == 1
    assert [(n, count) for n, count in enumerate(claim.waiting_elsewhere, 1) if count] == [
        (999, 1),
        (channels - 1, 2),
    ]
    world.settle(agent, *done(id_of(claim.items[0])))


def test_an_agent_registers_beats_and_leaves_with_thousands_of_channels(client: redis.Redis) -> None:
    channels = 4_000
    world = World(client, channels=channels)
    agent = world.agent(0, None)
    for channel in (0, 2_000, channels - 1):
        assert agents_of(world, channel) == {agent.actor.id.encode()}
    world.feed(1, 3_999)
    assert len(world.claim(agent, channel=3_999)) == 1
    agent.leave(0, channels)
    assert agents_of(world, 0) == agents_of(world, channels - 1) == set()
    assert sweep_now(world, channels=channels) == [(agent.actor.id, [3_999])]
    assert world.server.recover(agent.actor.id, reason("left"), channels=channels, claims_in=[3_999]) == 1


# The agents of a channel share its tasks


def test_a_heartbeat_enters_channels_and_leaves_them(world: World) -> None:
    agent = world.agent(0, (1,))
    mine = {agent.actor.id.encode()}
    assert [agents_of(world, channel) for channel in range(2)] == [set(), mine]
    agent.heartbeat(0, b"", claims_from=[0], not_from=[1])
    assert [agents_of(world, channel) for channel in range(2)] == [mine, set()]
    agent.heartbeat(0, b"", claims_from=(number for number in range(2)))
    assert [agents_of(world, channel) for channel in range(2)] == [mine, mine]
    assert agent.heartbeat(0, b"no change").channels == 2
    assert [agents_of(world, channel) for channel in range(2)] == [mine, mine]
    assert world.client.hget(world.keys.devices, "0")[13:] == b"no change"
    agent.heartbeat(0, b"paused", not_from=range(2))
    assert agents_of(world, 0) == agents_of(world, 1) == set()


def test_an_agents_share_of_a_channel_counts_only_agents_that_claim_from_it(world: World) -> None:
    one, both = world.agent(0, (0,)), world.agent(1, None)
    for channel in range(2):
        world.feed(10, channel)
    assert len(world.claim(one)) == 5
    assert len(world.claim(both, channel=1, held_elsewhere=0)) == 10
    both.heartbeat(1, b"", not_from=[0])
    assert len(world.claim(one)) == 5


def test_a_fresh_run_with_fewer_channels_forgets_the_agents_of_the_others(client: redis.Redis) -> None:
    world = World(client, channels=3)
    agent = world.agent(0, None)
    mine = {agent.actor.id.encode()}
    world.successor(mode="fresh", channels=1)
    assert [agents_of(world, channel) for channel in range(3)] == [mine, set(), set()]
    world.successor(mode="fresh", channels=3)
    assert [agents_of(world, channel) for channel in range(3)] == [mine, set(), set()]
    agent.heartbeat(0, b"", claims_from=[1, 2])
    world.successor(mode="resume", channels=3, capacity=None)
    assert [agents_of(world, channel) for channel in range(3)] == [mine, mine, mine]


# Registration


@pytest.mark.parametrize(("served", "text"), [(None, "all"), ((0,), "0"), ((1, 0), "1,0")])
def test_join_records_the_channels_and_returns_how_many_there_are(
    world: World, served: tuple[int, ...] | None, text: str
) -> None:
    agent = world.broker(Actor.agent())
    assert agent.join(0, served, this_process()) == 2
    record = agent.actor_record(agent.actor.id)
    assert record[b"channels"] == text.encode() and b"channel" not in record
    assert agent.join(0, served, this_process()) == 2, "a second copy"


@pytest.mark.parametrize("served", [(2,), (0, 2), (99_999, 0)])
def test_join_refuses_a_channel_that_does_not_exist(world: World, served: tuple[int, ...]) -> None:
    before = dump(world.client)
    with pytest.raises(LookupError) as refused:
        world.broker(Actor.agent()).join(0, served, this_process())
    assert refused.value.args == (2,)
    assert dump(world.client) == before


def test_only_agents_have_the_id_of_an_agent() -> None:
    assert is_agent(Actor.agent().id)
    for other in (Actor.server().id, Actor.operator().id, "a0-0123456789abcdef", "a", ""):
        assert not is_agent(other)


# Assigned channels


def assigned(world: World, agent: ById, device: int = 0) -> str:
    return agent.read_desired(device).channels


def test_the_channels_assigned_to_a_device_are_read(world: World) -> None:
    agent, ctl = world.agent(0), world.operator()
    ctl.set_desired(world.keys.desired_assignments, {"0": "0,1", "1": "all"})
    assert agent.read_desired(0) == DesiredState(paused=False, stop=0, detect="", channels="0,1")
    assert (assigned(world, agent, 1), assigned(world, agent, 2)) == ("all", "")
    ctl.set_desired(world.keys.desired_assignments, {"0": ""})
    assert assigned(world, agent) == ""


@pytest.mark.parametrize("mode", ["fresh", ""])
def test_a_new_run_forgets_assignments_and_a_resumed_one_keeps_them(world: World, mode: str) -> None:
    agent, ctl = world.agent(0), world.operator()
    ctl.set_desired(world.keys.desired_assignments, {"0": "1"})
    for channel in range(2):
        world.server.allot(channel, 0, [], exhausted=True)
    world.successor(mode="resume", capacity=None)
    assert world.run.resumed and assigned(world, agent) == "1"
    world.successor(mode=mode)
    assert not world.run.resumed and assigned(world, agent) == ""


def test_purging_a_device_forgets_its_assignment(world: World) -> None:
    agent, other, ctl = world.agent(0), world.agent(1), world.operator()
    ctl.set_desired(world.keys.desired_assignments, {"0": "1", "1": "0"})
    agent.leave(0, 2)
    assert ctl.purge_device(0)
    assert (assigned(world, other, 0), assigned(world, other, 1)) == ("", "0")


# Namespaces of other versions (law 11)


@pytest.mark.parametrize("theirs", ["1.0", "1.2", "0.9"])
def test_a_namespace_of_an_older_protocol_is_refused_with_what_to_do(world: World, theirs: str) -> None:
    world.client.hset(world.keys.meta, "protocol", theirs)
    before = dump(world.client)
    for register in (world.agent, world.operator, world.successor, lambda: world.successor(mode="fresh")):
        with pytest.raises(VersionMismatch) as refused:
            register()
        assert str(refused.value) == (
            f"namespace 't' speaks protocol {theirs} and this program {PROTOCOL}; "
            "let the older MutiTask finish its run, or update it too and choose another --name"
        )
    assert dump(world.client) == before


@pytest.mark.parametrize("theirs", ["2.1", "3.0", "new"])
def test_a_namespace_of_a_newer_protocol_is_refused_with_what_to_do(world: World, theirs: str) -> None:
    world.client.hset(world.keys.meta, "protocol", theirs)
    with pytest.raises(VersionMismatch, match="; install the same minor version of MutiTask on both sides"):
        world.agent()
