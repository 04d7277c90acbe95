"""Each reply that a script's head documents, and what the script does then."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest
import redis

from tests.protocol.tap import LUA, SCRIPTS, RawCall, dump
from tests.protocol.valid_calls import NUMBERED, VALID_CALLS, FilledWorld
from tests.protocol.world import (
    World,
    done,
    failed,
    failed_for_good,
    given_up,
    handed_back,
    id_of,
    reason,
    result_of,
    saved,
)
from tests.run_plan import run_plan
from worker_agent.protocol import PROTOCOL, list_item, wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.cancels import KEEP_MS, CancelRequest
from worker_agent.protocol.errors import (
    ConcurrentChange,
    LeaseLost,
    NamespaceGone,
    NoNamespace,
    Superseded,
    VersionMismatch,
    WritesLost,
)
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.membership import (
    MAX_EVENTS,
    ChannelCountDiffers,
    DesiredState,
    HoldsWork,
    LeaseHeld,
)

F = TypeVar("F", bound=Callable[..., None])

TESTED: set[tuple[str, str]] = set()


def replies(script: str, *words: str) -> Callable[[F], F]:
    """Record that the test covers these replies of the script."""

    def register(test: F) -> F:
        TESTED.update((script, word) for word in words)
        return test

    return register


def documented(script: str) -> set[str]:
    """Return the statuses of the replies in the script's head."""
    head = re.search(r"-- Returns .*?(?=\n[^-]|\n\n)", (LUA / f"{script}.lua").read_text(), re.DOTALL)
    assert head, f"{script}.lua does not say what it returns"
    return set(re.findall(r"\{'(\w+)'", head[0]))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_documented_reply_has_its_test(script: str) -> None:
    everywhere = {"again", "lost", "stale"} if script in NUMBERED else set()
    assert documented(script) - everywhere == {word for name, word in TESTED if name == script}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_reply_of_a_script_is_documented_in_its_head(script: str) -> None:
    body = (LUA / f"{script}.lua").read_text().split("\n\n", 1)[1]
    prelude = {"again", "lost", "stale"} if script in NUMBERED and script != "settle_and_claim" else set()
    assert set(re.findall(r"return \{'(\w+)'", body)) | prelude <= documented(script) | {"again"}


@pytest.fixture
def filled(client: redis.Redis) -> FilledWorld:
    return FilledWorld(client)


# allot


@replies("allot", "ok")
def test_allot_pushes_up_to_the_capacity_and_says_why_no_more(world: World) -> None:
    world.operator().set_capacity(0, 5)
    first = world.server.allot(0, 0, world.items(0, 3))
    assert (first.taken, first.waiting, first.why) == (3, 3, "")
    rest = world.server.allot(0, 3, world.items(3, 4), exhausted=True, halted="no")
    assert (rest.taken, rest.waiting, rest.why) == (2, 5, "full")
    counters = world.counters()
    assert (counters["allotted"], counters["cursor"], counters["starved"]) == ("5", "5", "1")
    assert "exhausted" not in counters and "halted" not in counters
    assert world.waiting() == [id_of(item) for item in world.items(0, 5)]
    assert world.client.llen(world.at.token) == 1


def test_allot_records_the_end_of_the_generator_and_why_a_feed_stopped(world: World) -> None:
    world.server.allot(0, 0, world.items(0, 2), halted="item 2 is a lambda")
    assert world.counters()["halted"] == "item 2 is a lambda"
    world.server.allot(0, 2, [], exhausted=True)
    assert (world.counters()["halted"], world.counters()["exhausted"]) == ("", "1")


@pytest.mark.parametrize("desired", ["paused", "ended"])
def test_allot_pushes_nothing_while_it_is_paused_or_ended(world: World, desired: str) -> None:
    world.operator().set_desired(world.keys.desired_server, {"allot": desired})
    answer = world.server.allot(0, 0, world.items(0, 3))
    assert (answer.taken, answer.waiting, answer.why) == (0, 0, desired)
    assert world.cursor() == 0


@replies("allot", "superseded", "moved", "gone")
def test_allot_names_a_successor_and_refuses_another_count(world: World) -> None:
    with pytest.raises(ConcurrentChange, match="the count is 0 now"):
        world.server.allot(0, 1, world.items(1, 3))
    old, _ = world.server, world.successor()
    with pytest.raises(
        Superseded,
        match=rf"a server on {this_process().host} \(pid {this_process().pid}\) holds this namespace",
    ):
        old.allot(0, 0, world.items(0, 3))
    world.server.leave()
    with pytest.raises(Superseded, match="no server holds this namespace any more"):
        old.allot(0, 0, world.items(0, 3))
    assert world.waiting() == []
    world.client.delete(world.keys.meta)
    with pytest.raises(NamespaceGone, match="are gone from Redis"):
        old.allot(0, 0, world.items(0, 3))


# answer_detect, read_desired, set_desired, configure


@replies("answer_detect", "ok")
def test_answer_detect_wakes_the_caller_and_expires(world: World) -> None:
    world.agent().answer_detect("d7", b"me")
    assert world.client.blpop([world.keys.detect_answers("d7")], 1) == [
        world.keys.detect_answers("d7").encode(),
        b"me",
    ]


def test_read_desired_prefers_the_device_to_the_default(world: World) -> None:
    agent, ctl = world.agent(1), world.operator()
    assert agent.read_desired(1) == DesiredState(paused=False, stop=False, detect="")
    ctl.set_desired(world.keys.desired_devices, {"1": "paused"})
    ctl.set_desired(world.keys.desired_stop, {agent.actor.id: "1"})
    ctl.set_desired(world.keys.desired_detect, {"1": "d7"})
    assert agent.read_desired(1) == DesiredState(paused=True, stop=True, detect="d7")
    assert agent.read_desired(0) == DesiredState(paused=False, stop=True, detect="")


def test_devices_start_paused_without_autostart(client: redis.Redis) -> None:
    assert World(client, autostart=False).agent().read_desired(0).paused


@replies("request_cancel", "ok")
def test_requests_to_cancel_add_up_for_a_minute_and_wake_their_agents(world: World) -> None:
    agent, other, ctl = world.agent(0), world.agent(1), world.operator()
    first, second = CancelRequest("q1", "a", "me, at host:1"), CancelRequest("q2", "b", "host:2")
    ctl.request_cancel(first, {0: agent.actor.id})
    ctl.request_cancel(second, {0: agent.actor.id, 1: other.actor.id})
    assert agent.read_desired(0).cancels == (first, second)
    assert other.read_desired(1).cancels == (second,)
    assert other.heartbeat(1, b"now").desired.cancels == (second,)
    for device in (0, 1):
        assert world.client.lrange(world.keys.device_token(device), 0, -1) == [b"1"]
    assert 0 < world.client.pttl(world.keys.desired_cancels) <= KEEP_MS

    old = world.client.hget(world.keys.desired_cancels, agent.actor.id)
    assert old is not None
    aged = b"0000000000001" + old[13:]
    world.client.hset(world.keys.desired_cancels, agent.actor.id, aged)
    third = CancelRequest("q3", "c", "host:3")
    ctl.request_cancel(third, {0: agent.actor.id})
    assert agent.read_desired(0).cancels == (second, third)


@replies("set_desired", "ok")
def test_set_desired_writes_fields_with_a_time_to_live_and_pushes_tokens(world: World) -> None:
    ctl, key = world.operator(), world.keys.desired_devices
    ctl.set_desired(key, {"0": "paused", "1": "paused"})
    tokens = [world.keys.device_token(0), world.keys.device_token(1)]
    ctl.set_desired(key, {"0": "", "1": "running"}, tokens=tokens, ttl_ms=5_000)
    assert world.client.hgetall(key) == {b"default": b"running", b"1": b"running"}
    assert 0 < world.client.pttl(key) <= 5_000
    for token in tokens:
        assert world.client.lrange(token, 0, -1) == [b"1"]
        assert 0 < world.client.pttl(token) <= 60_000
    ctl.set_desired(key, {"default": "paused"}, reset=True)
    assert world.client.hgetall(key) == {b"default": b"paused"}
    assert world.client.pttl(key) == -1


@replies("configure", "ok", "low")
def test_configure_sets_and_changes_a_number_down_to_its_minimum(world: World) -> None:
    ctl = world.operator()
    ctl.set_capacity(0, 7)
    assert world.counters()["capacity"] == "7"
    assert ctl.add_devices(+2) == 4
    assert ctl.add_devices(-4) == 0
    before = dump(world.client)
    with pytest.raises(ValueError, match="devices would be -1"):
        ctl.add_devices(-1)
    with pytest.raises(ValueError, match="capacity would be 0"):
        ctl.set_capacity(0, 0)
    assert dump(world.client) == before
    assert world.client.llen(world.keys.server_token) == 1


# delete, reload, edit


@replies("delete", "ok")
def test_delete_deletes_and_counts_only_tasks_that_are_still_there(world: World) -> None:
    ids = world.fail(world.agent(), 3)
    ctl = world.operator()
    assert ctl.delete(0, [ids[0], ids[2], "unknown0000000000001", ids[0]]) == 2
    assert world.counters()["deleted"] == "2"
    assert [*world.client.hkeys(world.at.failed)] == [ids[1].encode()]
    assert world.client.zrange(world.at.failed_at, 0, -1) == [ids[1].encode()]
    assert world.client.hkeys(world.at.reasons) == [ids[1].encode()]
    assert world.balanced()


@replies("reload", "ok")
def test_reload_requeues_tasks_that_are_still_there_with_fresh_counters(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    ids = world.fail(agent, 3)
    assert world.client.hget(world.at.failed, ids[0])[22:25] == b"010"
    assert ctl.reload(0, [ids[1], "unknown0000000000001"]) == 1
    assert ctl.reload(0, [ids[1]]) == 0
    assert ctl.reload_all(0) == 2
    assert world.waiting() == [ids[1], ids[0], ids[2]]
    assert all(item[22:25] == b"000" for item in world.client.lrange(world.at.waiting, 0, -1))
    assert world.client.exists(world.at.failed, world.at.failed_at, world.at.reasons) == 0
    assert world.balanced()


@replies("edit", "ok")
def test_edit_gives_a_failed_task_another_body_under_its_own_id(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    ids = world.fail(agent, 2)
    assert ctl.edit(0, ids[0], wire.pack("edited"))
    assert not ctl.edit(0, ids[0], wire.pack("too late"))
    [item] = [list_item.parse(item) for item in world.client.lrange(world.at.waiting, 0, -1)]
    assert (item.id, item.attempt, item.crashes, wire.unpack(item.body)) == (ids[0], 0, 0, "edited")
    assert world.client.hkeys(world.at.reasons) == [ids[1].encode()]
    assert world.balanced()


# drain


@replies("drain", "ok", "moved")
def test_drain_removes_only_results_that_were_read(world: World) -> None:
    agent, ctl, other = world.agent(), world.operator(), world.operator()
    world.feed(5)
    ids = world.claim(agent)
    world.settle(agent, *(part for id_ in ids for part in done(id_, id_)))
    lines = world.results()
    assert lines == [result_of(id_, id_) for id_ in ids]

    assert ctl.drain(0, 0, 2) == 2
    assert world.results() == lines[2:]
    with pytest.raises(ConcurrentChange, match="the count is 2 now"):
        other.drain(0, 0, 2)
    assert other.drain(0, 2, 100) == 3
    assert ctl.drain(0, 5, 100) == 0
    assert world.results() == []


def test_drain_wakes_a_server_that_the_cap_on_results_stopped(client: redis.Redis) -> None:
    world = World(client, results_max=1)
    agent = world.agent()
    world.feed(2)
    world.settle(agent, *done(world.claim(agent, 1)[0]))
    assert world.server.allot(0, 2, world.items(2, 1)).why == "results"
    client.delete(world.keys.server_token)
    world.operator().drain(0, 0, 1)
    assert client.llen(world.keys.server_token) == 1
    assert world.server.allot(0, 2, world.items(2, 1)).taken == 1


# register_operator, join, heartbeat, renew_server_lease, leave, fence, purge_device, open_run


@replies("register_operator", "ok", "none", "version")
def test_register_operator_needs_a_namespace_of_this_protocol_and_expires(world: World) -> None:
    ctl = world.operator()
    assert 0 < world.client.pttl(world.keys.actor(ctl.actor.id)) <= 3_600_000
    world.client.hset(world.keys.meta, "protocol", "0.9")
    with pytest.raises(VersionMismatch, match=rf"speaks protocol 0\.9 and this program {PROTOCOL}"):
        world.operator()
    world.client.delete(world.keys.meta)
    with pytest.raises(NoNamespace, match="no server has opened namespace 't' yet"):
        world.operator()


@replies("join", "ok", "none", "version", "channel", "changed", "held", "lost")
def test_join_registers_on_a_free_device_and_says_why_it_refuses_others(world: World) -> None:
    agent = world.broker(Actor.agent())
    assert agent.join(4, (0,), this_process()) == 2
    record = agent.actor_record(agent.actor.id)
    assert (record[b"device"], record[b"channels"], record[b"pid"]) == (
        b"4",
        b"0",
        str(this_process().pid).encode(),
    )
    assert agent.actor_on(4) == agent.actor.id
    assert world.client.hget(world.keys.fleet, "devices") == b"5"

    newcomer = world.broker(Actor.agent())
    with pytest.raises(LookupError, match="2"):
        newcomer.join(1, (2,), this_process())
    with pytest.raises(ConcurrentChange, match="another agent took Device4"):
        newcomer.join(4, (0,), this_process())
    with pytest.raises(LeaseHeld) as held:
        newcomer.join(4, (0,), this_process(), holder=agent.actor.id)
    assert (held.value.actor, held.value.identity) == (agent.actor.id, this_process())
    assert 0 < held.value.left_ms <= 10_000
    world.expire_and_recover(agent)
    with pytest.raises(LeaseLost):
        agent.join(4, (0,), this_process())
    world.client.hset(world.keys.meta, "protocol", "9.0")
    with pytest.raises(VersionMismatch):
        newcomer.join(1, (0,), this_process())
    world.client.delete(world.keys.meta)
    with pytest.raises(NoNamespace):
        newcomer.join(1, (0,), this_process())


@replies("heartbeat", "ok", "lost")
def test_heartbeat_renews_the_lease_and_returns_its_length_and_the_number_of_channels(
    client: redis.Redis,
) -> None:
    world = World(client, lease_ms=9_000)
    agent = world.agent(1)
    world.expire(agent)
    reply = agent.heartbeat(1, b"busy", claims_from=[0])
    assert (reply.lease_ms, reply.channels) == (9_000, 2)
    now = agent.now_ms()
    assert now < client.zscore(world.keys.leases, agent.actor.id) <= now + 9_000
    stamped = client.hget(world.keys.devices, "1")
    assert now - 5_000 < int(stamped[:13]) <= now and stamped[13:] == b"busy"
    assert client.zrange(world.at.agents, 0, -1) == [agent.actor.id.encode()]
    agent.heartbeat(1, b"idle", not_from=[0])
    assert client.zcard(world.at.agents) == 0
    world.expire_and_recover(agent)
    with pytest.raises(LeaseLost):
        agent.heartbeat(1, b"busy", claims_from=[0])


@replies("renew_server_lease", "ok", "lost", "superseded", "gone")
def test_renew_server_lease_works_until_the_server_is_fenced_or_superseded(world: World) -> None:
    world.expire(world.server)
    world.server.renew_server_lease()
    assert world.client.zscore(world.keys.server_lease, world.server.actor.id) > world.server.now_ms()
    world.server.fence(world.server.actor.id)
    with pytest.raises(LeaseLost):
        world.server.renew_server_lease()
    old, _ = world.server, world.successor()
    with pytest.raises(Superseded, match="a server on"):
        old.renew_server_lease()
    world.client.flushall()
    with pytest.raises(NamespaceGone):
        old.renew_server_lease()


@replies("leave", "ok")
def test_leave_fences_the_actor_and_frees_its_device(world: World) -> None:
    agent = world.agent(1)
    agent.leave(1, 2)
    assert agent.actor_on(1) == ""
    assert world.client.zscore(world.keys.leases, agent.actor.id) is None
    assert world.client.zcard(world.at.agents) == 0
    assert agent.actor_record(agent.actor.id)[b"dead"] == b"1"
    with pytest.raises(LeaseLost):
        world.claim(agent)
    world.agent(1)


def test_tasks_of_an_actor_that_left_are_recovered_at_once(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(2)
    ids = world.claim(agent, 1)
    agent.leave(0, 2)
    other.sweep(2)
    world.client.hset(world.keys.fleet, "swept_ms", other.now_ms() - 1_001)
    assert other.sweep(2).dead == [(agent.actor.id, [0])]
    assert other.recover(agent.actor.id, reason("left")) == 1
    assert world.waiting()[1:] == ids
    assert world.balanced()


@replies("fence", "ok")
def test_fence_ends_an_actor_at_once_and_the_next_sweep_finds_it(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(1)
    world.claim(agent)
    other.fence(agent.actor.id)
    with pytest.raises(LeaseLost):
        world.settle(agent)
    with pytest.raises(LeaseLost):
        agent.heartbeat(0, b"I am still here", claims_from=[0])
    world.client.hset(world.keys.fleet, "swept_ms", other.now_ms() - 1_001)
    assert other.sweep(2).dead == [(agent.actor.id, [0])]
    other.fence("a-nobody")
    assert world.client.exists(world.keys.actor("a-nobody")) == 0


@replies("purge_device", "ok", "held")
def test_purge_device_deletes_an_offline_device(world: World) -> None:
    agent, ctl = world.agent(1), world.operator()
    ctl.set_desired(world.keys.desired_devices, {"1": "paused"})
    with pytest.raises(ConcurrentChange, match="an agent is on Device1"):
        ctl.purge_device(1)
    world.expire(agent)
    assert ctl.purge_device(1)
    assert not ctl.purge_device(1)
    assert world.client.hexists(world.keys.devices, "1") is False
    assert world.client.zscore(world.keys.heard, "1") is None
    assert world.client.hexists(world.keys.desired_devices, "1") is False
    assert ctl.actor_on(1) == ""


@replies("open_run", "ok", "changed")
def test_open_run_starts_a_run_with_its_settings(client: redis.Redis) -> None:
    world = World(client, channels=3, devices=4, capacity=9, retries=1, retry_delay_ms=5, results_max=77)
    assert not world.run.resumed and re.fullmatch("[0-9a-f]{8}", world.run.id)
    meta = {
        "protocol": PROTOCOL, "run": world.run.id, "channels": "3", "retry": "1 5 1 600000 0 - -",
        "lease_ms": "10000", "results_max": "77", "server": world.server.actor.id,
    }  # fmt: skip
    assert client.hmget(world.keys.meta, meta) == [value.encode() for value in meta.values()]
    assert client.hget(world.keys.fleet, "devices") == b"4"
    assert [world.counters(channel)["capacity"] for channel in range(3)] == ["9"] * 3
    late = world.last()
    moved = list(late.args)
    moved[0], moved[7] = "s-another", 2
    keys = (world.keys.actor("s-another"), *late.keys[1:])
    assert RawCall("open_run", keys, tuple(moved)).send(client) == [b"changed"]


@replies("open_run", "held", "lost", "version")
def test_open_run_names_a_live_holder_and_another_protocol(world: World) -> None:
    before = dump(world.client)
    with pytest.raises(LeaseHeld) as held:
        world.broker(Actor.server()).open_run(run_plan(**world.plan), this_process())
    assert (held.value.actor, held.value.identity) == (world.server.actor.id, this_process())
    assert 0 < held.value.left_ms <= 10_000
    assert dump(world.client) == before
    old, _ = world.server, world.successor()
    with pytest.raises(LeaseLost):
        old.open_run(run_plan(**world.plan), this_process(), gone=world.server.actor.id)
    world.client.hset(world.keys.meta, "protocol", "0.9")
    with pytest.raises(VersionMismatch):
        world.broker(Actor.server()).open_run(run_plan(**world.plan), this_process())


@replies("open_run", "work", "channels")
def test_open_run_reports_work_until_a_mode_is_chosen(filled: FilledWorld) -> None:
    before = dump(filled.client)
    with pytest.raises(HoldsWork) as work:
        filled.successor(mode="")
    assert work.value.counts == {
        "waiting": 2, "claimed": 5, "delayed": 1, "failed": 2, "results": 2, "unexhausted": 2
    }  # fmt: skip
    with pytest.raises(ChannelCountDiffers, match="2"):
        filled.successor(channels=3)
    assert dump(filled.client) == before


def test_open_run_resumes_with_everything_in_its_place(filled: FilledWorld) -> None:
    run, before = filled.run.id, filled.counts()
    filled.successor(capacity=None, devices=None)
    assert (filled.run.id, filled.run.resumed) == (run, True)
    assert filled.counts() == before
    assert filled.counters()["cursor"] == "12"
    filled.feed(1)


def test_open_run_fresh_drops_every_task_and_keeps_the_agents(filled: FilledWorld) -> None:
    run = filled.run.id
    filled.successor(mode="fresh", channels=1)
    assert filled.run.id != run and not filled.run.resumed
    assert set(filled.counts(0).values()) == {0} and filled.counters(1) == {}
    assert filled.client.keys(filled.at.claims("*")) == []
    assert filled.settle(filled.mine, *done(filled.claims[0])).refused == 1
    ids = filled.feed(1)
    assert filled.claim(filled.mine) == ids
    assert filled.balanced()


def test_open_run_starts_a_new_run_once_all_work_is_done(world: World) -> None:
    first = world.run.id
    for channel in range(2):
        world.server.allot(channel, 0, [], exhausted=True)
    world.successor(mode="")
    assert world.run.id != first
    assert "exhausted" not in world.counters()


# recover, promote, sweep, sample_counters, append_device_log, append_event


@replies("recover", "ok", "alive")
def test_recover_leaves_live_actors_alone_and_requeues_the_tasks_of_others(world: World) -> None:
    agent, other = world.agent(0), world.agent(1)
    world.feed(3)
    world.claim(agent, 2)
    assert other.recover(agent.actor.id, reason("crashed")) == 0
    world.expire(agent)
    assert other.recover(agent.actor.id, reason("crashed")) == 2
    assert [item[24:25] for item in world.client.lrange(world.at.waiting, 0, -1)] == [b"0", b"1", b"1"]
    assert agent.actor_record(agent.actor.id)[b"dead"] == b"1"
    assert other.actor_on(0) == ""
    assert world.client.exists(world.at.claims(agent.actor.id)) == 0
    assert world.client.hgetall(world.at.claim_counts) == {}
    assert world.balanced()


@replies("promote", "ok")
def test_promote_requeues_only_due_tasks(client: redis.Redis) -> None:
    world = World(client, retry_delay_ms=60_000)
    agent = world.agent()
    world.feed(2)
    ids = world.claim(agent)
    world.settle(agent, *failed(ids[0]), *failed(ids[1]))
    client.delete(world.at.token)
    assert agent.promote(0) == 0
    due = next(item for item in client.zrange(world.at.delayed, 0, -1) if id_of(item) == ids[1])
    client.zadd(world.at.delayed, {due: agent.now_ms()})
    assert agent.promote(0) == 1
    assert client.lrange(world.at.waiting, 0, -1) == [due]
    assert client.zcard(world.at.delayed) == 1
    assert client.llen(world.at.token) == 1
    assert world.balanced()


def test_sweep_finds_ended_leases_and_channels_with_due_tasks(filled: FilledWorld) -> None:
    filled.client.hset(filled.keys.fleet, "swept_ms", filled.ctl.now_ms() - 1_500)
    filled.expire(filled.mine)
    filled.client.zadd(filled.keys.channel(1).delayed, {b"M1": 1})
    found = filled.ctl.sweep(2)
    assert (found.dead, found.due) == ([(filled.mine.actor.id, [0])], [1])


@replies("sample_counters", "ok")
def test_sample_counters_keeps_a_sample_every_five_seconds_for_an_hour(filled: FilledWorld) -> None:
    client, at = filled.client, filled.at
    filled.ctl.sample_counters(2)
    filled.ctl.sample_counters(2)
    [line] = client.lrange(at.history, 0, -1)
    now, *counts = (int(word) for word in line.split())
    assert counts == [
        client.llen(at.waiting), 50, sum(int(n) for n in client.hvals(at.claim_counts)),
        int(client.hget(at.agent_counters, "done") or 0), client.hlen(at.failed),
        int(client.hget(at.counters, "allotted")), int(client.hget(at.counters, "cursor")),
    ]  # fmt: skip
    client.delete(at.history)
    client.rpush(at.history, *[f"{now - 5_000} 0 50 0 0 0 0 0"] * 720)
    filled.ctl.sample_counters(2)
    assert client.llen(at.history) == 720
    assert int(client.lindex(at.history, -1).split()[0]) >= now


@replies("append_device_log", "ok")
def test_append_device_log_keeps_the_last_hundred_lines(world: World) -> None:
    agent = world.agent(0)
    for first in range(0, 150, 50):
        agent.append_device_log(0, [f"line {number}" for number in range(first, first + 50)])
    kept = world.client.lrange(world.keys.device_log(0), 0, -1)
    assert (len(kept), kept[0], kept[-1]) == (100, b"line 50", b"line 149")


@replies("append_event", "ok")
def test_append_event_removes_old_events_only_for_a_server(world: World) -> None:
    agent, key = world.agent(0), world.keys.events
    world.client.rpush(key, *["old"] * MAX_EVENTS)
    agent.append_event("warning", "Device0", "joined")
    assert world.client.llen(key) == MAX_EVENTS + 1
    ms, fields = world.client.lindex(key, -1)[:13], world.client.lindex(key, -1)[13:]
    assert abs(int(ms) - agent.now_ms()) < 60_000
    assert wire.unpack(fields) == ["warning", "Device0", "joined"]
    world.server.append_event("info", "server", "began")
    assert world.client.llen(key) == MAX_EVENTS
    agent.append_event("info", "Device0", "left")
    world.server.sample_counters(2)
    assert world.client.llen(key) == MAX_EVENTS


# settle_and_claim


@replies("settle_and_claim", "gap")
def test_an_agent_whose_calls_redis_lost_gets_a_gap_and_changes_nothing(world: World) -> None:
    agent = world.agent(0)
    world.feed(4)
    ids = world.claim(agent, 2)
    agent.actor.next_number()  # A call that Redis answered and then lost.
    before = dump(world.client)
    with pytest.raises(WritesLost, match="Redis at here lost its last writes"):
        world.settle(agent, *done(ids[0]), want=2)
    assert dump(world.client) == before


@replies("settle_and_claim", "ok")
def test_every_outcome_goes_where_it_belongs(client: redis.Redis) -> None:
    world = World(client, retries=1)
    agent, stranger = world.agent(0), world.agent(1)
    world.feed(7)
    a, b, c, d, e = world.claim(agent, 4) + world.claim(agent, 1)
    [theirs] = world.claim(stranger, 1)
    [last] = world.waiting()
    claim = world.settle(
        agent,
        *done(a, "result"), *saved(b), *failed(c, "first"), *failed_for_good(d, "timeout"), *handed_back(e),
        *done(theirs), *failed(theirs), *handed_back(a),
    )  # fmt: skip
    assert claim.refused == 3
    assert world.results() == [result_of(a, "result")]
    assert world.counters()["done"] == "2"
    assert world.waiting() == [c, e, last]
    assert client.lindex(world.at.waiting, 0)[22:25] == b"010"
    assert client.hget(world.at.failed, d)[22:25] == b"010"
    assert client.hget(world.at.retry_reasons, c) == reason("first")
    assert client.hget(world.at.reasons, d) == reason("timeout") + given_up("undecodable")
    assert client.hgetall(world.at.claim_counts) == {stranger.actor.id.encode(): b"1"}
    assert world.balanced()


def test_a_batch_that_is_handed_back_waits_first_in_its_old_order(world: World) -> None:
    agent = world.agent()
    ids = world.feed(6)
    assert world.claim(agent, 4) == ids[:4]
    world.settle(agent, *(part for id_ in ids[1:4] for part in handed_back(id_)))
    assert world.waiting() == ids[1:]


def test_a_task_that_succeeds_after_failed_runs_leaves_no_reason_behind(world: World) -> None:
    agent = world.agent()
    world.feed(1)
    [id_] = world.claim(agent)
    assert world.claim(agent, settlements=failed(id_, "one")) == [id_]
    assert world.claim(agent, settlements=failed(id_, "two")) == [id_]
    assert world.client.hget(world.at.retry_reasons, id_) == reason("one") + reason("two")
    world.settle(agent, *done(id_))
    assert world.client.exists(world.at.reasons, world.at.retry_reasons) == 0


def test_a_task_runs_once_and_its_retries_and_then_fails_with_all_its_reasons(world: World) -> None:
    agent = world.agent()
    world.feed(1)
    for run in range(4):
        [id_] = world.claim(agent)
        world.settle(agent, *failed(id_, f"run {run}"))
    assert world.waiting() == []
    assert world.client.hget(world.at.reasons, id_) == b"".join(
        reason(f"run {run}") for run in range(4)
    ) + given_up("no_retries")
    assert world.client.zscore(world.at.failed_at, id_) <= agent.now_ms()
    assert world.balanced()


def test_a_claim_takes_an_agents_share_of_the_waiting_tasks(world: World) -> None:
    one, two, paused = world.agent(0), world.agent(1), world.agent(2)
    paused.heartbeat(2, b"", not_from=[0])
    world.feed(11)
    assert len(world.claim(one)) == 6
    assert len(world.claim(two)) == 3
    assert len(world.claim(one)) == 1
    assert len(world.claim(two)) == 1
    assert len(world.claim(one)) == 0


def test_a_paused_channel_allows_settles_and_no_claims(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    world.feed(4)
    [first] = world.claim(agent, 1)
    ctl.set_desired(world.keys.desired_channels, {"0": "paused"})
    world.client.delete(world.at.token)
    assert world.claim(agent, settlements=done(first)) == []
    assert world.client.llen(world.at.token) == 0
    assert world.counters()["done"] == "1"


def test_a_claim_that_leaves_tasks_waiting_passes_the_token_on(world: World) -> None:
    agent = world.agent()
    world.feed(2)
    world.client.delete(world.at.token)
    world.claim(agent, 1)
    assert world.client.llen(world.at.token) == 1
    world.client.delete(world.at.token)
    world.claim(agent, 1)
    assert world.client.llen(world.at.token) == 0


def test_a_claim_wakes_a_server_whose_channel_was_full_once_half_of_it_is_free(world: World) -> None:
    agent = world.agent()
    world.operator().set_capacity(0, 4)
    world.server.allot(0, 0, world.items(0, 5))
    world.client.delete(world.keys.server_token)
    world.claim(agent, 1)
    assert world.client.llen(world.keys.server_token) == 0
    world.claim(agent, 1)
    assert world.client.llen(world.keys.server_token) == 1
    assert "starved" not in world.counters()


# skip_item, snapshot


@replies("skip_item", "ok", "moved", "superseded", "gone")
def test_skip_item_skips_only_the_item_at_which_the_feed_stopped(world: World) -> None:
    world.server.allot(0, 0, world.items(0, 2), halted="item 2 is a lambda")
    with pytest.raises(ConcurrentChange, match="the count is 2 now"):
        world.server.skip_item(0, 1)
    world.server.skip_item(0, 2)
    counters = world.counters()
    assert (counters["cursor"], counters["allotted"], "halted" in counters) == ("3", "2", False)
    with pytest.raises(ConcurrentChange):
        world.server.skip_item(0, 2)
    assert world.server.allot(0, 3, world.items(3, 1)).taken == 1
    assert world.balanced()
    old, _ = world.server, world.successor()
    with pytest.raises(Superseded):
        old.skip_item(0, 4)
    world.client.delete(world.keys.meta)
    with pytest.raises(NamespaceGone):
        old.skip_item(0, 4)


def test_a_snapshot_holds_every_count_at_one_instant(filled: FilledWorld) -> None:
    call = next(valid for valid in VALID_CALLS if valid.script == "snapshot").build(filled)
    (
        ms,
        meta,
        leases,
        agents,
        devices,
        desired,
        channels_desired,
        server_desired,
        fleet,
        events,
        channels,
        lease,
        sizes,
        changes_only,
    ) = call.send(filled.client)
    assert abs(int(ms) - filled.ctl.now_ms()) < 60_000
    assert b"protocol" in meta and filled.mine.actor.id.encode() in leases
    assert agents == [b"0", filled.mine.actor.id.encode(), b"1", filled.neighbour.actor.id.encode()]
    assert devices[0::2] == [b"0", b"1"]
    assert (desired, channels_desired) == ([b"default", b"running", b"0", b"running"], [b"1", b"paused"])
    assert server_desired == [b"old", b"wish"]
    assert fleet[:2] == [b"devices", b"2"]
    assert wire.unpack(events[-1][13:]) == ["info", "test", "filled"]
    assert lease[0] == filled.server.actor.id.encode()
    assert (sizes, changes_only) == ([2, 2, 2], b"0")
    counts = filled.counts()
    assert channels[0][1:6] == [counts[s] for s in ("waiting", "delayed", "failed")] + [2, counts["claimed"]]
    assert channels[0][6] == filled.client.lindex(filled.at.waiting, 0)[:26]
    assert channels[0][7] == [b"done", b"2", b"errors", b"3"]


def test_namespaces_do_not_see_one_another(client: redis.Redis) -> None:
    one, two = World(client, "one"), World(client, "two")
    one.feed(3)
    assert two.claim(two.agent()) == []
    assert Keys("one").prefix != Keys("two").prefix
    assert two.counts()["allotted"] == 0
