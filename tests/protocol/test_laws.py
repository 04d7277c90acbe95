"""The laws in `worker_agent/protocol/__init__.py`, one by one. `test_counters_balance.py` tests laws 1 and 2 too."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import redis

from tests.protocol.tap import dump
from tests.protocol.world import (
    LARGE,
    ById,
    World,
    crashed,
    done,
    failed,
    failed_for_good,
    given_up,
    handed_back,
    id_of,
    reason,
    result_of,
)
from tests.run_plan import run_plan
from worker_agent.protocol import PROTOCOL, list_item, wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker, Claim
from worker_agent.protocol.errors import ConcurrentChange, LeaseLost, Superseded, Unpackable, VersionMismatch
from worker_agent.protocol.identity import is_gone, this_process
from worker_agent.protocol.membership import HoldsWork, LeaseHeld
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.scripts import script


@pytest.fixture(params=["bodies inline", "bodies apart"])
def world(client: redis.Redis, request: pytest.FixtureRequest) -> World:
    """Return a namespace with a server, two channels and no tasks. Its tasks have small or large bodies."""
    return World(client, body=LARGE if request.param == "bodies apart" else "body")


@pytest.fixture
def inline_world(client: redis.Redis) -> World:
    """Return the same with small bodies."""
    return World(client)


def sweep_now(world: World, broker: Broker, *, ago_ms: int = 1_001) -> list[str]:
    """Sweep `ago_ms` after the last sweep. Return the actors to recover."""
    world.client.hset(world.keys.fleet, "swept_ms", broker.now_ms() - ago_ms)
    return [actor for actor, _ in broker.sweep(2).dead]


# Law 2: at least once, recorded once


def test_a_settle_renews_a_lease_that_ended_without_fencing(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(2)
    [id_] = world.claim(agent, 1)
    world.expire(agent)

    assert world.settle(agent, *done(id_, "late but good")).refused == 0
    assert world.results() == [result_of(id_, "late but good")]
    assert world.client.zscore(world.keys.leases, agent.actor.id) > agent.now_ms()
    assert other.recover(agent.actor.id, reason("crashed")) == 0


def test_after_recovery_everything_that_the_actor_sends_changes_nothing(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(4)
    ids = world.claim(agent, 2)
    world.expire_and_recover(agent)
    taken = world.claim(other)
    before = dump(world.client)

    with pytest.raises(LeaseLost):
        world.settle(agent, *done(ids[0], "a second result"), *failed_for_good(ids[1]))
    with pytest.raises(LeaseLost):
        world.claim(agent)
    with pytest.raises(LeaseLost):
        agent.heartbeat(0, b"I am alive", claims_from=[0])
    with pytest.raises(LeaseLost):
        agent.join(0, (0,), this_process())
    assert dump(world.client) == before
    assert taken


def test_a_result_is_recorded_once_although_two_agents_ran_the_task(world: World) -> None:
    frozen, other = world.agent(0), world.agent(1)
    [id_] = world.feed(1)
    assert world.claim(frozen) == [id_]
    world.expire_and_recover(frozen)
    assert world.claim(other) == [id_]
    world.settle(other, *done(id_, "theirs"))
    with pytest.raises(LeaseLost):
        world.settle(frozen, *done(id_, "mine"))
    new_actor = world.agent(0)
    assert world.settle(new_actor, *done(id_, "mine again")).refused == 1
    assert world.results() == [result_of(id_, "theirs")]
    assert world.counters()["done"] == "1"
    assert world.balanced()


def test_the_same_task_settled_twice_in_one_batch_is_recorded_once(world: World) -> None:
    agent = world.agent()
    [id_] = world.feed(1)
    world.claim(agent)
    claim = world.settle(agent, *done(id_, 1), *done(id_, 2), *failed(id_), *handed_back(id_))
    assert claim.refused == 3
    assert world.results() == [result_of(id_, 1)]
    assert world.waiting() == []
    assert world.balanced()


def test_a_fenced_agent_continues_as_a_new_actor(world: World) -> None:
    agent = world.agent(0)
    world.feed(1)
    world.claim(agent)
    world.expire_and_recover(agent)
    new_actor = world.agent(0)
    assert new_actor.actor.id != agent.actor.id
    assert len(world.claim(new_actor)) == 1


# Law 3: every script can be sent twice, or late (test_scripts_are_harmless.py tests this for each script)


def test_a_settle_sent_twice_records_one_result_and_returns_the_same_tasks(world: World) -> None:
    agent = world.agent()
    world.feed(6)
    [first] = world.claim(agent, 1)
    claim = agent.settle_and_claim(0, done(first, "once"), 3)
    again = world.last().send(world.client)
    assert list(map(id_of, list_item.unpack_items(again[3]))) == list(map(id_of, claim.items))
    assert len(claim.items) == 3
    assert world.results() == [result_of(first, "once")]
    assert world.counts()["claimed"] == 3


def test_a_claim_sent_again_after_its_tasks_were_settled_returns_no_tasks(world: World) -> None:
    agent = world.agent()
    ids = world.feed(2)
    world.claim(agent)
    late = world.last()
    world.settle(agent, *done(ids[0]), *done(ids[1]))
    before = dump(world.client)
    assert late.send(world.client) == [b"stale"]
    assert dump(world.client) == before


def test_the_broker_reads_a_stored_answer_like_the_first_one(world: World) -> None:
    """The client loses the first answer to every call, like a connection that breaks, and sends the call again."""

    class Forgetful:
        plain = world.client

        def execute_command(self, *command: object) -> object:
            with contextlib.suppress(redis.ResponseError):
                world.client.execute_command(*command)
            return world.client.execute_command(*command)

    def forgetful(actor: Actor) -> ById:
        return ById(Forgetful(), "t", actor, address="here")

    server = forgetful(world.server.actor)
    assert server.allot(0, 0, world.items(0, 5), exhausted=True).taken == 5
    agent = forgetful(Actor.agent())
    assert agent.join(0, (0,), this_process()) == 2
    agent.heartbeat(0, b"", claims_from=[0])
    ids = [id_of(item) for item in agent.settle_and_claim(0, [], 5).items]
    assert len(ids) == 5
    assert (
        agent.settle_and_claim(0, [*failed_for_good(ids[0]), *done("unknown0000000000000")], 0).refused == 1
    )
    agent.settle_and_claim(0, [*done(ids[1]), *failed_for_good(ids[2]), *failed_for_good(ids[3])], 0)
    ctl = forgetful(Actor.operator())
    ctl.register_operator()
    assert ctl.drain(0, 0, 9) == 1
    assert ctl.delete(0, [ids[0]]) == 1
    assert ctl.edit(0, ids[2], wire.pack("x")) is True
    assert ctl.reload_all(0) == 1
    assert ctl.add_devices(1) == 3
    world.expire(agent)
    assert ctl.purge_device(0) is True
    assert world.balanced()


def claim_ahead(world: World, agent: Broker, number: int) -> Claim | None:
    """Claim up to two tasks after a short wait for the token. Redis knows the script, so the call cannot fail."""
    world.client.script_load(script("settle_and_claim").source)
    return agent.claim_at_token(world.client, 0, 2, number, 0.01)


def test_a_claim_sent_ahead_and_the_same_number_by_another_way_are_one_claim(world: World) -> None:
    agent = world.agent(0)
    ids = world.feed(3)
    number = agent.actor.next_number()

    ahead = claim_ahead(world, agent, number)
    again = agent.settle_and_claim(0, [], 3, number=number)

    assert ahead is not None
    assert [id_of(item) for item in ahead.items] == ids[:2]
    assert again == ahead
    assert world.claim(agent, 3) == ids[2:]
    assert world.balanced()


def test_a_claim_sent_ahead_that_comes_after_the_next_call_claims_nothing(world: World) -> None:
    agent = world.agent(0)
    ids = world.feed(3)
    number = agent.actor.next_number()
    agent.settle_and_claim(0, [], 0, number=number)
    assert world.claim(agent, 1) == ids[:1]
    world.client.delete(world.at.token)
    before = dump(world.client)

    assert claim_ahead(world, agent, number) is None

    assert dump(world.client) == before


def test_a_claim_sent_ahead_by_a_fenced_actor_claims_nothing(world: World) -> None:
    agent = world.agent(0)
    world.feed(1)
    world.expire_and_recover(agent)

    number = agent.actor.next_number()
    assert claim_ahead(world, agent, number) is None
    with pytest.raises(LeaseLost):
        agent.settle_and_claim(0, [], 1, number=number)


# Law 5: the generator's place is saved with its tasks


def test_a_superseded_server_allots_nothing_however_late_it_wakes(world: World) -> None:
    frozen = world.server
    world.feed(3)
    packet = world.capture(lambda: frozen.allot(0, 3, world.items(3, 5)))
    world.successor()
    before = dump(world.client)
    with pytest.raises(Superseded, match="pid"):
        frozen.allot(0, 3, world.items(3, 5))
    assert packet.send(world.client)[0] == b"superseded"
    assert dump(world.client) == before
    world.feed(2)
    assert world.cursor() == 5


def test_a_fenced_server_allots_nothing_even_without_a_successor(world: World) -> None:
    world.expire_and_recover(world.server)
    items = world.items(0, 5)
    before = dump(world.client)
    with pytest.raises(LeaseLost):
        world.server.allot(0, 0, items)
    assert dump(world.client) == before


@pytest.mark.parametrize("cursor", [0, 2, 4, 1_000])
def test_allot_from_another_count_changes_nothing(world: World, cursor: int) -> None:
    world.feed(3)
    items = world.items(cursor, 5)
    before = dump(world.client)
    with pytest.raises(ConcurrentChange, match="the count is 3 now"):
        world.server.allot(0, cursor, items)
    assert dump(world.client) == before


def test_a_resumed_run_continues_at_exactly_the_next_item(world: World) -> None:
    world.operator().set_capacity(0, 7)
    answer = world.server.allot(0, 0, world.items(0, 20))
    world.successor(capacity=None)
    assert world.run.resumed
    assert world.cursor() == answer.taken == 7
    world.claim(world.agent(), 2)
    assert world.server.allot(0, 7, world.items(7, 13)).taken == 2
    assert [int(id_[8:]) for id_ in world.waiting()] == list(range(2, 9))


def test_skip_item_skips_one_item_and_counts_no_task(world: World) -> None:
    world.server.allot(0, 0, world.items(0, 2), halted="item 2 cannot be packed")
    world.server.skip_item(0, 2)
    world.feed(1)
    assert [int(id_[8:]) for id_ in world.waiting()] == [0, 1, 3]
    assert world.counters()["allotted"] == "3"
    assert world.balanced()


# Law 6: back-pressure


def test_allot_never_brings_waiting_above_the_capacity_and_returns_are_never_refused(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    ctl.set_capacity(0, 10)
    assert world.server.allot(0, 0, world.items(0, 100)).taken == 10
    ids = world.claim(agent)
    assert world.server.allot(0, 10, world.items(10, 100)).taken == 10
    back = [*failed(ids[0]), *handed_back(ids[1]), *failed_for_good(ids[2]), *failed_for_good(ids[3])]
    world.settle(agent, *back)
    assert ctl.reload_all(0) == 2
    world.expire_and_recover(agent)
    assert world.counts()["waiting"] == 20

    answer = world.server.allot(0, 20, world.items(20, 5))
    assert (answer.taken, answer.waiting, answer.why) == (0, 20, "full")
    assert world.balanced()


def test_a_lowered_capacity_drops_nothing_and_feeds_nothing_until_there_is_room(world: World) -> None:
    world.feed(20)
    world.operator().set_capacity(0, 5)
    assert world.counts()["waiting"] == 20
    assert world.server.allot(0, 20, world.items(20, 5)).why == "full"
    agent = world.agent()
    world.claim(agent, 16)
    assert world.server.allot(0, 20, world.items(20, 5)).taken == 1
    assert world.counts()["waiting"] == 5


def test_too_many_undrained_results_stop_the_feed_until_they_are_drained(client: redis.Redis) -> None:
    world = World(client, results_max=3)
    agent = world.agent()
    world.feed(4)
    ids = world.claim(agent)
    world.settle(agent, *(part for id_ in ids[:3] for part in done(id_)))
    answer = world.server.allot(0, 4, world.items(4, 2))
    assert (answer.taken, answer.why) == (0, "results")
    world.settle(agent, *done(ids[3]))
    assert len(world.results()) == 4
    world.operator().drain(0, 0, 2)
    assert world.server.allot(0, 4, world.items(4, 2)).taken == 2


# Law 7: one server for each namespace, one agent for each device


def test_a_live_agent_keeps_its_device_and_is_named(world: World) -> None:
    agent = world.agent(1)
    before = dump(world.client)
    with pytest.raises(LeaseHeld) as held:
        world.agent(1, holder=agent.actor.id)
    assert held.value.identity == this_process()
    assert abs(held.value.since_ms - agent.now_ms()) < 60_000
    assert dump(world.client) == before


def test_an_agent_whose_lease_ended_is_replaced_and_fenced(world: World) -> None:
    silent = world.agent(1)
    world.feed(1)
    world.claim(silent)
    world.expire(silent)
    successor = world.agent(1, holder=silent.actor.id)
    assert successor.actor_on(1) == successor.actor.id
    with pytest.raises(LeaseLost):
        world.settle(silent)
    assert sweep_now(world, successor) == [silent.actor.id]
    assert successor.recover(silent.actor.id, reason("crashed")) == 1
    assert successor.actor_on(1) == successor.actor.id


def test_an_agent_whose_process_is_gone_is_replaced_at_once_and_its_tasks_are_recovered(world: World) -> None:
    gone = world.agent(1)
    world.feed(1)
    world.claim(gone)
    successor = world.agent(1, holder=gone.actor.id, gone=True)
    with pytest.raises(LeaseLost):
        gone.heartbeat(1, b"", claims_from=[0])
    assert sweep_now(world, successor) == [gone.actor.id]
    assert successor.recover(gone.actor.id, reason("crashed")) == 1
    assert len(world.claim(successor)) == 1


def test_of_two_agents_that_replace_the_same_holder_one_gets_the_device(world: World) -> None:
    gone = world.agent(1)
    winner = world.agent(1, holder=gone.actor.id, gone=True)
    with pytest.raises(ConcurrentChange):
        world.agent(1, holder=gone.actor.id, gone=True)
    assert winner.actor_on(1) == winner.actor.id


def test_a_live_server_keeps_its_namespace_and_is_named(world: World) -> None:
    before = dump(world.client)
    with pytest.raises(LeaseHeld) as held:
        world.broker(Actor.server()).open_run(run_plan(**world.plan, mode="fresh"), this_process())
    assert held.value.identity == this_process()
    assert dump(world.client) == before


def test_a_server_whose_lease_ended_is_replaced_and_fenced(world: World) -> None:
    silent = world.server
    world.expire(silent)
    world.new_server(mode="resume")
    with pytest.raises(Superseded):
        silent.renew_server_lease()
    assert silent.actor_record(silent.actor.id)[b"dead"] == b"1"
    assert world.client.zscore(world.keys.leases, silent.actor.id) is None


def test_a_server_fenced_by_recovery_no_longer_holds_the_namespace(world: World) -> None:
    world.expire_and_recover(world.server)
    world.new_server(mode="resume")
    world.feed(1)


def test_a_process_that_runs_is_not_gone() -> None:
    assert not is_gone(this_process())
    assert is_gone(replace(this_process(), start=this_process().start + 1))


# Law 8: recovery needs no server


def test_a_namespace_is_swept_at_most_once_a_second(world: World) -> None:
    one, two = world.agent(0), world.agent(1)
    dead = world.agent(2)
    assert one.heartbeat(0, b"", claims_from=[0]).sweep_due
    one.sweep(2)
    world.expire(dead)
    assert not two.heartbeat(1, b"", claims_from=[0]).sweep_due
    assert not world.server.renew_server_lease()
    assert two.sweep(2).dead == []
    world.client.hset(world.keys.fleet, "swept_ms", two.now_ms() - 1_001)
    assert two.heartbeat(1, b"", claims_from=[0]).sweep_due
    assert world.server.renew_server_lease()
    assert two.sweep(2).dead == [(dead.actor.id, [])]
    assert one.sweep(2).dead == []


def test_agents_recover_and_promote_without_any_server(client: redis.Redis) -> None:
    world = World(client, retry_delay_ms=1)
    dead, alive = world.agent(0), world.agent(1)
    world.feed(2)
    ids = world.claim(dead, 1) + world.claim(dead, 1)
    world.settle(dead, *failed(ids[0]))
    world.server.leave()
    world.expire(dead)
    item = client.zrange(world.at.delayed, 0, 0)[0]
    client.zadd(world.at.delayed, {item: 1})
    client.hset(world.keys.fleet, "swept_ms", alive.now_ms() - 1_001)
    assert recover_and_promote(alive, 1) == 1
    assert sorted(world.waiting()) == sorted(ids)
    assert world.balanced()


def test_claims_whose_actor_has_no_lease_are_found(world: World) -> None:
    orphan, alive = world.agent(0), world.agent(1)
    world.feed(1)
    world.claim(orphan)
    world.client.zrem(world.keys.leases, orphan.actor.id)
    world.client.delete(world.keys.actor(orphan.actor.id))
    assert sweep_now(world, alive) == [orphan.actor.id]
    assert alive.recover(orphan.actor.id, reason("crashed")) == 1
    assert sweep_now(world, alive) == []
    assert world.client.exists(world.keys.actor(orphan.actor.id)) == 0
    assert world.balanced()


def test_leases_start_afresh_after_a_time_without_heartbeats(world: World) -> None:
    agent, other, dead = world.agent(0), world.agent(1), world.agent(2)
    world.feed(1)
    world.claim(agent)
    other.fence(dead.actor.id)
    world.expire(agent)
    assert sweep_now(world, other, ago_ms=5_001) == [dead.actor.id]
    now = other.now_ms()
    assert now + 9_000 < world.client.zscore(world.keys.leases, agent.actor.id) <= now + 10_000
    assert other.recover(agent.actor.id, reason("crashed")) == 0


def test_a_short_lease_still_ends_when_sweeps_come_every_second(client: redis.Redis) -> None:
    world = World(client, lease_ms=1_500)
    agent, other = world.agent(0), world.agent(1)
    world.expire(agent)
    assert sweep_now(world, other, ago_ms=1_200) == [agent.actor.id]


def test_a_lease_that_ended_after_a_sweep_was_due_is_judged_by_the_next_sweep(world: World) -> None:
    """Redis may have been away before the sweep. Live agents send a heartbeat before the next sweep."""
    agent, other = world.agent(0), world.agent(1)
    world.feed(1)
    world.claim(agent)
    world.client.zadd(world.keys.leases, {agent.actor.id: other.now_ms() - 1_500})
    assert sweep_now(world, other, ago_ms=2_800) == []
    assert sweep_now(world, other, ago_ms=800) == [agent.actor.id]


def test_an_actor_with_more_tasks_than_one_call_moves_is_recovered_whole(inline_world: World) -> None:
    world = inline_world  # More tasks than a claim brings with large bodies.
    agent, other = world.agent(0), world.agent(1)
    agent.heartbeat(0, b"", claims_from=[0])
    world.operator().set_capacity(0, 5_000)
    world.feed(2_500)
    other.heartbeat(1, b"", not_from=[0])
    for _ in range(3):
        world.claim(agent, 1_000)
    assert world.counts()["claimed"] == 2_500
    world.expire(agent)
    calls = len(world.tap.log)
    assert other.recover(agent.actor.id, reason("crashed")) == 2_500
    assert len(world.tap.log) - calls == 3
    assert world.counts()["waiting"] == 2_500
    assert world.balanced()


def test_a_recovery_that_stops_half_way_is_continued_by_the_next_sweep(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(4)
    world.claim(agent, 2)
    world.claim(agent, 2)
    world.expire(agent)
    part = world.capture(lambda: other.recover(agent.actor.id, reason("crashed")))
    reply = replace(part, args=(part.args[0], 1, part.args[2])).send(world.client)
    left = world.counts()["claimed"]
    assert 0 < left < 3
    assert reply == [b"ok", 3 - left, 0, left, []]
    assert world.client.hget(world.at.claim_counts, agent.actor.id) == str(left).encode()
    with pytest.raises(LeaseLost):
        world.settle(agent)
    assert sweep_now(world, other) == [agent.actor.id]
    other.recover(agent.actor.id, reason("crashed"))
    assert world.counts()["waiting"] == 4
    assert world.balanced()


# Law 9: only a task that kills its process fails as crashed


def test_a_crash_does_not_use_up_a_retry(world: World) -> None:
    first = world.agent(0)
    world.feed(1)
    [id_] = world.claim(first)
    world.settle(first, *failed(id_))
    world.claim(first)
    world.expire_and_recover(first)
    [item] = world.client.lrange(world.at.waiting, 0, -1)
    assert (list_item.parse(item).attempt, list_item.parse(item).crashes) == (1, 1)


def test_a_task_that_kills_its_own_process_three_times_fails_while_its_agent_lives(world: World) -> None:
    agent = world.agent(0)
    killer, *innocent = world.feed(3)
    world.settle(agent, *crashed(world.claim(agent)[0]), *(p for id_ in innocent for p in handed_back(id_)))
    assert world.waiting() == [*innocent, killer]
    world.settle(agent, *(part for id_ in world.claim(agent) for part in done(id_)))
    for crashes in (1, 2):
        world.feed(1)
        assert world.claim(agent) == [killer], "alone"
        assert world.client.exists(world.at.reasons, world.at.retry_reasons) == 0
        assert [item[22:25] for item in world.claimed_items(agent)] == [b"00%d" % crashes]
        world.settle(agent, *crashed(killer, "died"))
        world.settle(agent, *(part for id_ in world.claim(agent) for part in done(id_)))
    assert world.client.hget(world.at.failed, killer)[22:25] == b"003"
    assert world.client.hget(world.at.reasons, killer) == reason("died") + given_up("crashes")
    assert world.balanced()


def test_a_recovered_task_is_claimed_alone(world: World) -> None:
    first = world.agent(0)
    world.feed(3)
    crashed = world.claim(first)
    world.expire_and_recover(first)
    world.feed(3)
    agent = world.agent(0)

    seen = []
    for _ in range(3):
        batch = world.claim(agent)
        assert len(batch) == 1
        seen += batch
        assert world.claim(agent) == [], "no task is claimed beside a recovered task"
        world.settle(agent, *done(batch[0]))
    assert sorted(seen) == sorted(crashed)
    assert len(world.claim(agent)) == 3


def test_a_recovered_task_is_not_claimed_beside_tasks_in_flight(world: World) -> None:
    first, agent = world.agent(0), world.agent(1)
    fresh = world.feed(4)
    world.claim(first, 1)
    world.expire_and_recover(first)
    assert world.waiting() == [*fresh[1:], fresh[0]]
    assert world.claim(agent) == fresh[1:]
    assert world.claim(agent) == []
    world.settle(agent, *done(fresh[1]), *done(fresh[2]))
    assert world.claim(agent) == []
    assert world.claim(agent, settlements=done(fresh[3])) == [fresh[0]]


def test_only_the_killer_reaches_three_crashes(world: World) -> None:
    killer, *innocent = world.feed(6)
    crashed_together = set()
    for device in range(20):
        agent = world.agent(device)
        batch = world.claim(agent)
        if killer in batch:
            crashed_together |= set(batch) - {killer}
            world.expire_and_recover(agent)
        else:
            world.settle(agent, *(part for id_ in batch for part in done(id_)))
            agent.leave(device, 2)
    assert crashed_together == set(innocent)
    assert world.client.hkeys(world.at.failed) == [killer.encode()]
    assert world.client.hget(world.at.failed, killer)[22:25] == b"003"
    assert world.client.hget(world.at.reasons, killer) == reason("crashed") + given_up("crashes")
    assert world.counters()["done"] == "5"
    assert world.balanced()


def test_a_reload_clears_all_counters(world: World) -> None:
    [killer] = world.feed(1)
    for device in range(3):
        agent = world.agent(device)
        assert world.claim(agent) == [killer]
        world.expire_and_recover(agent)
    ctl = world.operator()
    assert world.counts()["failed"] == 1
    assert ctl.reload(0, [killer]) == 1
    [item] = world.client.lrange(world.at.waiting, 0, -1)
    assert (list_item.parse(item).attempt, list_item.parse(item).crashes) == (0, 0)


def test_reload_all_takes_only_tasks_that_failed_before_the_command(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    old, new = world.fail(agent, 2)
    asked = agent.now_ms()
    world.client.zadd(world.at.failed_at, {old: asked - 5, new: asked + 1})
    part = world.capture(lambda: ctl.reload_all(0))
    arguments = (part.args[0], asked, *part.args[2:])
    assert replace(part, args=arguments).send(world.client) == [b"ok", 1, 0, str(asked).encode()]
    assert world.waiting() == [old]
    assert world.client.hkeys(world.at.failed) == [new.encode()]


def test_reload_all_uses_the_time_of_its_first_call(inline_world: World) -> None:
    world = inline_world  # More tasks than a claim brings with large bodies.
    agent, ctl = world.agent(), world.operator()
    world.operator().set_capacity(0, 5_000)
    ids = world.fail(agent, 1_000) + world.fail(agent, 1_000) + world.fail(agent, 500)
    world.client.zadd(world.at.failed_at, {ids[-1]: agent.now_ms() + 60_000})
    calls = len(world.tap.log)
    assert ctl.reload_all(0) == 2_499
    asked = [call.args[1] for call in world.tap.log[calls:]]
    assert asked[0] == b"" and asked[1] == asked[2] != b""
    assert world.counts()["failed"] == 1
    assert world.balanced()


def test_a_task_that_may_be_retried_a_hundred_times_fails_in_the_end(client: redis.Redis) -> None:
    world = World(client, retries=1_000)
    agent = world.agent()
    world.feed(1)
    for _ in range(99):
        [id_] = world.claim(agent)
        world.settle(agent, *failed(id_))
    assert world.counts()["failed"] == 1


# Law 11: data is data


def test_another_minor_version_of_the_protocol_is_refused_and_both_are_named(world: World) -> None:
    world.client.hset(world.keys.meta, "protocol", "1.99")
    before = dump(world.client)
    for register in (world.agent, world.operator, world.successor):
        with pytest.raises(VersionMismatch) as refused:
            register()
        assert "1.99" in str(refused.value) and PROTOCOL in str(refused.value)
    assert dump(world.client) == before


FOREIGN = [
    b"", b"hello", b"M1", b"{json: 1}", b"\x00" * 40, b"M1" + b"x" * 60, b"M2abcdefgh000000000001000mbody",
    b"M1abcdefgh00000000000x000mbody", b"M1abcdefg!000000000001000mbody", b"M1abcdefgh000000000001000Mbody",
    b" M1abcdefgh000000000001000mbody", b"M1abcdefgh000000000001000",
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_foreign_item_goes_to_the_fail_channel_as_it_is_and_is_counted(
    world: World, foreign: bytes
) -> None:
    agent = world.agent()
    [ours] = world.feed(1)
    world.client.lpush(world.at.waiting, foreign)
    assert world.claim(agent) == [ours]
    assert list(world.client.hgetall(world.at.failed).items()) == [(b"foreign0000000000001", foreign)]
    assert world.counts()["allotted"] == 2 and world.counters()["foreign"] == "1"
    assert world.balanced()
    with pytest.raises(wire.Undecodable):
        list_item.parse(foreign)


def test_reload_skips_foreign_items_and_they_can_be_edited_or_deleted(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    world.client.rpush(world.at.waiting, "one", "two", "three")
    assert world.claim(agent) == []
    [failed_task] = world.fail(agent, 1)
    one, two, three = (f"foreign0{number:012d}" for number in (1, 2, 3))
    assert ctl.reload_all(0) == 1 and ctl.reload(0, [one]) == 0
    assert world.waiting() == [failed_task]
    assert ctl.delete(0, [one]) == 1
    assert ctl.edit(0, two, wire.pack("ours now"))
    assert world.waiting() == [failed_task, two]
    assert world.client.hkeys(world.at.failed) == [three.encode()]
    assert world.balanced()


def test_tasks_that_failed_behind_a_thousand_foreign_items_are_reloaded(world: World) -> None:
    agent = world.agent()
    world.client.rpush(world.at.waiting, *[b"foreign"] * 1_200)
    world.claim(agent)
    world.claim(agent)
    assert world.counts()["failed"] == 1_200
    ids = world.fail(agent, 3)
    assert world.operator().reload_all(0) == 3
    assert world.waiting() == ids


def test_a_thousand_foreign_items_do_not_keep_redis_from_others(world: World) -> None:
    """One call reads no more items than it may claim (law 1: at most 1,000)."""
    agent = world.agent()
    world.client.rpush(world.at.waiting, *[b"foreign"] * 3_000)
    assert world.claim(agent, 10) == []
    assert world.client.hlen(world.at.failed) == 10
    world.claim(agent, 5_000)
    assert world.client.hlen(world.at.failed) == 1_010
    assert world.client.llen(world.at.token) == 1


def test_a_body_that_does_not_unpack_is_carried_as_it_is(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    body = bytes(range(256)) * 3
    item = list_item.header(world.run.id, 0) + body
    world.server.allot(0, 0, [item])
    assert agent.settle_and_claim(0, [], 1).items == [item]
    with pytest.raises(wire.Undecodable):
        wire.unpack(list_item.parse(item).body)
    id_ = id_of(item)
    world.settle(agent, *failed_for_good(id_, "does not unpack"))
    ctl.reload(0, [id_])
    assert agent.settle_and_claim(0, [], 1).items == [item]
    world.expire_and_recover(agent)
    assert world.client.lindex(world.at.waiting, 0)[26:] == body


def test_a_namespace_that_holds_only_foreign_items_is_not_dropped_without_fresh(client: redis.Redis) -> None:
    world = World(client)
    world.server.leave()
    client.delete(world.keys.meta, world.at.counters)
    client.rpush(world.at.waiting, "another value")
    with pytest.raises(HoldsWork):
        world.new_server()


# Bounds


def test_five_thousand_items_are_allotted_in_one_call(world: World) -> None:
    world.operator().set_capacity(0, 10_000)
    world.feed(5_000)
    assert world.last().name == "allot"
    assert world.counts()["waiting"] == 5_000
    assert [int(id_[8:]) for id_ in world.waiting()] == list(range(5_000))
    assert world.balanced()


def test_a_thousand_tasks_are_claimed_and_settled_in_one_call(inline_world: World) -> None:
    world = inline_world  # More tasks than a claim brings with large bodies.
    agent = world.agent()
    world.operator().set_capacity(0, 10_000)
    world.feed(5_000)
    ids = world.claim(agent, 5_000)
    assert len(ids) == 1_000
    for outcome in (done, failed, failed_for_good, handed_back):
        claim = world.settle(agent, *(part for id_ in ids for part in outcome(id_)), want=1_000)
        assert claim.refused == 0 and len(claim.items) == 1_000
        ids = [id_of(item) for item in claim.items]
        assert world.balanced()
    assert world.counters()["done"] == "1000"


@pytest.mark.parametrize(("size", "limit"), [(5_000, 1024 * 1024), (100_000, 4 * 1024 * 1024)])
def test_a_claim_ends_with_the_item_that_reaches_its_limit(
    inline_world: World, size: int, limit: int
) -> None:
    """The limit is 1 MiB. Bodies that are stored apart count a quarter."""
    world, agent = inline_world, inline_world.agent()
    world.operator().set_capacity(0, 1_000)
    world.feed(300, body=b"x" * size)
    items = agent.settle_and_claim(0, [], 1_000).items
    assert sum(map(len, items[:-1])) < limit <= sum(map(len, items))
    assert world.balanced()


def test_a_small_task_before_large_ones_does_not_let_a_claim_become_too_large(world: World) -> None:
    agent = world.agent()
    [small] = world.feed(1)
    large = world.feed(20, body=b"x" * 400_000)
    assert world.claim(agent, 1_000) == [small, *large[:11]]
    assert world.waiting() == large[11:]
    assert world.claim(agent, 1_000) == large[11:]
    assert world.balanced()


def test_a_task_of_sixty_megabytes_travels_and_one_above_64_mebibytes_is_refused(world: World) -> None:
    agent = world.agent()
    body = b"\xab" * 60_000_000
    small = world.feed(1)
    [large] = world.feed(1, body=body)
    assert world.claim(agent, 1_000) == [*small, large]
    world.settle(agent, *handed_back(large))
    [item] = agent.settle_and_claim(0, [], 1_000).items
    assert wire.unpack(list_item.parse(item).body) == body
    world.client.flushdb()

    assert len(wire.pack(b"x" * (wire.MAX_BYTES - 5))) == wire.MAX_BYTES
    with pytest.raises(Unpackable, match="a bytes of 67,108,865 bytes once packed; the most is 64 MiB"):
        wire.pack(b"x" * (wire.MAX_BYTES - 4))
