"""Every script sent twice, late, by a fenced actor, with keys of a wrong type, and with only the keys it declares."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import NoPermissionError, ResponseError

from tests.protocol.tap import LUA, SCRIPTS, RawCall, dump
from tests.protocol.valid_calls import NUMBERED, VALID_CALLS, FilledWorld, ValidCall
from tests.protocol.world import failed, reason
from tests.run_plan import run_plan
from tests.support.redis_server import RealServer
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import WritesLost
from worker_agent.protocol.identity import this_process


@pytest.fixture
def filled(client: redis.Redis) -> FilledWorld:
    return FilledWorld(client)


READERS = ("read_desired", "snapshot", "sweep")
"""Scripts whose reply has no status."""

each_call = pytest.mark.parametrize("valid", VALID_CALLS, ids=str)
each_numbered = pytest.mark.parametrize("valid", [v for v in VALID_CALLS if v.numbered], ids=str)


def keys_declared(script: str) -> int:
    """Return the least number of keys that the script's head documents."""
    text = (LUA / f"{script}.lua").read_text()
    return max(int(number) for number in re.findall(r"KEYS\[(\d+)\]", text))


def test_every_script_has_a_valid_call() -> None:
    assert {valid.script for valid in VALID_CALLS} == set(SCRIPTS)


@each_call
def test_a_valid_call_succeeds(filled: FilledWorld, valid: ValidCall) -> None:
    call = valid.build(filled)
    reply = call.send(filled.client)
    if valid.script not in READERS:
        assert reply[0] == b"ok"
    assert len(call.keys) == keys_of(valid) >= keys_declared(valid.script)


# Sent twice


def stored(call: RawCall, reply: list) -> list:
    """Return the reply to a numbered call that is sent a second time."""
    if call.name == "settle_and_claim":
        return reply
    if call.name in ("delete", "edit"):
        reply = reply[
            :2
        ]  # The bodies apart are not stored. The sweep finds those that a lost reply leaves behind.
    texts = [part if isinstance(part, bytes) else str(part).encode() for part in reply[1:]]
    return [b"again", b" ".join(texts)]


@each_numbered
def test_a_numbered_call_sent_twice_gets_the_stored_answer_and_changes_nothing(
    filled: FilledWorld, valid: ValidCall
) -> None:
    call = valid.build(filled)
    before = dump(filled.client)
    first = call.send(filled.client)
    after = dump(filled.client)
    assert after != before

    assert call.send(filled.client) == stored(call, first)
    assert dump(filled.client) == after


APPENDS_TWICE = {"answer_detect", "append_event", "append_device_log"}
"""Scripts whose second copy appends a second line, which does no harm."""

SECOND_REPLY: dict[str, list | None] = {
    "fence": [b"ok"],
    "register_operator": [b"ok"],
    "join": None,
    "leave": [b"ok"],
    "read_desired": None,
    "open_run": None,
    "promote": [b"ok", 0],
    "recover": [b"ok", 0, 0, 0, []],
    "renew_server_lease": None,
    "heartbeat": None,
    "sample_counters": [b"ok", 0],
    "snapshot": None,
    "sweep": [[], []],
}
"""The reply to an unnumbered call that is sent a second time. None: the same reply as before."""


@pytest.mark.parametrize(
    "valid", [v for v in VALID_CALLS if not v.numbered and v.script not in APPENDS_TWICE], ids=str
)
def test_an_unnumbered_call_sent_twice_changes_nothing_but_the_time_of_a_lease(
    filled: FilledWorld, valid: ValidCall
) -> None:
    call = valid.build(filled)
    renewed = {"heartbeat": (*call.keys[1:3], *call.keys[6:]), "renew_server_lease": call.keys[1:2]}.get(
        valid.script, ()
    )
    first = call.send(filled.client)
    after = dump(filled.client, but=renewed)
    second = call.send(filled.client)
    assert dump(filled.client, but=renewed) == after
    if valid.script == "snapshot":
        assert second[1:] == first[1:]
    elif valid.script in ("heartbeat", "renew_server_lease"):
        assert second[0] == b"ok"
    else:
        assert second == (SECOND_REPLY[valid.script] or first)


def test_every_unnumbered_script_says_how_a_second_copy_is_answered() -> None:
    assert set(SECOND_REPLY) | NUMBERED | APPENDS_TWICE == set(SCRIPTS)


def test_an_answer_sent_twice_is_a_second_line_with_a_time_to_live(filled: FilledWorld) -> None:
    filled.mine.answer_detect("d1", b"here")
    filled.last().send(filled.client)
    key = filled.keys.detect_answers("d1")
    assert filled.client.lrange(key, 0, -1) == [b"here", b"here"]
    assert 0 < filled.client.pttl(key) <= 60_000


def test_log_lines_sent_twice_are_there_twice_and_expire(filled: FilledWorld) -> None:
    filled.mine.append_device_log(0, ["started"])
    filled.last().send(filled.client)
    key = filled.keys.device_log(0)
    assert filled.client.lrange(key, 0, -1) == [b"started", b"started"]
    assert 0 < filled.client.pttl(key) <= 86_400_000


# Late


def a_later_call(world: FilledWorld, call: RawCall) -> None:
    """Make another call of the same actor."""
    for broker in (world.ctl, world.server, world.mine):
        if world.keys.actor(broker.actor.id) == call.keys[0]:
            if broker is world.mine:
                world.settle(broker, want=1)
            else:
                broker.set_desired(world.keys.desired_stop, {"somebody": "1"})
            return
    raise AssertionError("the call belongs to no actor of the world")


def test_a_claim_that_arrives_after_its_agent_gave_up_the_actor_changes_nothing(
    filled: FilledWorld,
) -> None:
    """Agents repeat a call until it has an answer. So the late call is a copy of one that Redis answered and lost."""
    late = filled.capture(lambda: filled.mine.settle_and_claim(0, [], 1))
    with pytest.raises(WritesLost):
        filled.settle(filled.mine, want=1)
    filled.mine.fence(filled.mine.actor.id)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


@pytest.mark.parametrize(
    ("valid", "arrived"),
    [
        pytest.param(valid, arrived, id=f"{'a-second-copy' if arrived else 'the-only-copy'}-{valid}")
        for valid in VALID_CALLS
        for arrived in (True, False)
        if valid.numbered and (arrived or valid.script != "settle_and_claim")
    ],
)
def test_a_numbered_call_that_arrives_after_a_later_one_is_stale_and_changes_nothing(
    filled: FilledWorld, valid: ValidCall, arrived: bool
) -> None:
    call = valid.build(filled)
    if arrived:
        call.send(filled.client)
    a_later_call(filled, call)
    before = dump(filled.client)
    assert call.send(filled.client) == [b"stale"]
    assert dump(filled.client) == before


@each_numbered
def test_a_numbered_call_of_a_fenced_actor_changes_nothing(filled: FilledWorld, valid: ValidCall) -> None:
    call = valid.build(filled)
    filled.client.hset(call.keys[0], "dead", "1")
    before = dump(filled.client)
    assert call.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


@each_numbered
def test_a_numbered_call_of_an_actor_whose_record_expired_changes_nothing(
    filled: FilledWorld, valid: ValidCall
) -> None:
    call = valid.build(filled)
    filled.client.delete(call.keys[0])
    before = dump(filled.client)
    assert call.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_copy_of_recover_leaves_a_live_actor_alone(filled: FilledWorld) -> None:
    filled.expire(filled.mine)
    late = filled.capture(lambda: filled.neighbour.recover(filled.mine.actor.id, reason("crashed")))
    filled.mine.heartbeat(0, b"alive after all", claims_from=[0])
    before = dump(filled.client)
    assert late.send(filled.client) == [b"alive"]
    assert dump(filled.client) == before


def test_a_late_copy_of_recover_leaves_tasks_to_agents_that_claimed_them_since(
    filled: FilledWorld,
) -> None:
    filled.expire_and_recover(filled.mine)
    late = filled.last()
    assert filled.claim(filled.neighbour, 10)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"ok", 0, 0, 0, []]
    assert dump(filled.client) == before


def test_a_late_copy_of_promote_finds_nothing_due(filled: FilledWorld) -> None:
    filled.client.zadd(filled.at.delayed, {filled.client.zrange(filled.at.delayed, 0, 0)[0]: 1})
    assert filled.ctl.promote(0) == 1
    late = filled.last()
    filled.settle(filled.mine, *failed(filled.claims[0], "again"))
    before = dump(filled.client)
    assert late.send(filled.client) == [b"ok", 0]
    assert dump(filled.client) == before


def test_a_late_copy_of_join_does_not_revive_a_fenced_actor(filled: FilledWorld) -> None:
    agent = filled.agent(3)
    late = next(call for call in filled.tap.log[::-1] if call.name == "join")
    filled.expire_and_recover(agent)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_copy_of_join_does_not_revive_an_actor_that_left(filled: FilledWorld) -> None:
    agent = filled.agent(3)
    late = next(call for call in filled.tap.log[::-1] if call.name == "join")
    agent.leave(3, 2)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_copy_of_join_does_not_take_a_device_back_from_a_successor(filled: FilledWorld) -> None:
    agent = filled.agent(3)
    late = next(call for call in filled.tap.log[::-1] if call.name == "join")
    filled.agent(3, holder=agent.actor.id, gone=True)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_join_that_arrives_late_does_not_replace_a_newer_agent(filled: FilledWorld) -> None:
    slow = filled.broker(Actor.agent())
    late = filled.capture(lambda: slow.join(3, (0,), this_process()))
    filled.agent(3)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"changed"]
    assert dump(filled.client) == before


def test_a_late_copy_of_leave_does_not_touch_the_successor_on_the_device(filled: FilledWorld) -> None:
    filled.mine.leave(0, 2)
    late = filled.last()
    filled.broker(Actor.operator()).recover(filled.mine.actor.id, reason("left"))
    successor = filled.agent(0)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"ok"]
    assert dump(filled.client) == before
    successor.heartbeat(0, b"still here", claims_from=[0])


def test_a_late_copy_of_a_servers_leave_does_not_touch_its_successor(filled: FilledWorld) -> None:
    filled.server.leave()
    late = filled.last()
    successor = filled.new_server(mode="resume")
    before = dump(filled.client)
    assert late.send(filled.client) == [b"ok"]
    assert dump(filled.client) == before
    successor.renew_server_lease()


def test_a_late_heartbeat_does_not_revive_a_fenced_actor(filled: FilledWorld) -> None:
    late = filled.capture(lambda: filled.mine.heartbeat(0, b"late", claims_from=[0]))
    filled.expire_and_recover(filled.mine)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_heartbeat_of_an_agent_whose_device_was_purged_changes_nothing(filled: FilledWorld) -> None:
    late = filled.capture(lambda: filled.mine.heartbeat(0, b"late", claims_from=[0]))
    filled.expire(filled.mine)
    assert filled.ctl.purge_device(0)
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_copy_of_renew_server_lease_changes_nothing_once_a_successor_holds_the_namespace(
    filled: FilledWorld,
) -> None:
    late = filled.capture(filled.server.renew_server_lease)
    filled.successor()
    before = dump(filled.client)
    assert late.send(filled.client)[0] == b"superseded"
    assert dump(filled.client) == before


def test_a_late_copy_of_register_operator_keeps_the_number_of_the_actor(filled: FilledWorld) -> None:
    ctl = filled.operator()
    late = filled.last()
    ctl.set_desired(filled.keys.desired_stop, {"somebody": "1"})
    before = dump(filled.client)
    assert late.send(filled.client) == [b"ok"]
    assert dump(filled.client) == before


@pytest.mark.parametrize("mode", ["resume", "fresh"])
def test_a_late_copy_of_open_run_does_not_take_the_namespace_back(filled: FilledWorld, mode: str) -> None:
    filled.successor(mode=mode)
    late = filled.last()
    filled.feed(3)
    filled.successor()
    before = dump(filled.client)
    assert late.send(filled.client) == [b"lost"]
    assert dump(filled.client) == before


def test_a_late_copy_of_open_run_drops_nothing_that_was_allotted_since(filled: FilledWorld) -> None:
    filled.successor(mode="fresh")
    late = filled.last()
    filled.feed(3)
    before = dump(filled.client)
    assert late.send(filled.client)[0] == b"ok"
    assert dump(filled.client) == before


def test_an_open_run_that_arrives_after_another_servers_is_refused(filled: FilledWorld) -> None:
    slow = filled.broker(Actor.server())
    plan = run_plan(**(filled.plan | {"mode": "fresh"}))
    late = filled.capture(lambda: slow.open_run(plan, this_process(), gone=filled.server.actor.id))
    filled.successor()
    before = dump(filled.client)
    assert late.send(filled.client) == [b"changed"]
    assert dump(filled.client) == before


# Keys of a wrong type, keys that are missing


def keys_of(valid: ValidCall) -> int:
    """Return the number of keys of a call, including keys that the head documents only once for each channel."""
    channels = 3 if valid.variant == "fresh" else 2
    claims = 0 if valid.variant == "first" else 2
    varying = {
        "heartbeat": 14 if valid.variant == "two-channels" else 13,
        "leave": 4 if valid.variant == "a-server" else 8,
        "open_run": 10 + 15 * channels + claims,
        "recover": 16,
        "settle_and_claim": 21 if valid.variant == "beside-another-channel" else 20,
        "sweep": 12,
        "sample_counters": 13,
        "snapshot": 25,
        "set_desired": 4,
        "request_cancel": 4,
    }
    return varying.get(valid.script, keys_declared(valid.script))


EACH_KEY = [
    pytest.param(valid, index, id=f"{valid}-KEYS[{index + 1}]")
    for valid in VALID_CALLS
    for index in range(keys_of(valid))
]


@pytest.mark.parametrize(("valid", "index"), EACH_KEY)
def test_a_key_of_a_wrong_type_stops_a_script_before_its_first_write(
    filled: FilledWorld, valid: ValidCall, index: int
) -> None:
    call = valid.build(filled)
    key = call.keys[index]
    filled.client.set(key, "not ours")
    before = dump(filled.client)
    if index in valid.unread:
        reply = call.send(filled.client)
        assert reply[0] == b"ok" or valid.script in READERS
        return
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        call.send(filled.client)
    assert dump(filled.client) == before


@pytest.mark.parametrize(("valid", "index"), EACH_KEY)
def test_a_missing_key_never_leaves_a_script_half_done(
    filled: FilledWorld, valid: ValidCall, index: int
) -> None:
    call = valid.build(filled)
    filled.client.delete(call.keys[index])
    before = dump(filled.client)
    try:
        call.send(filled.client)
    except ResponseError:
        assert dump(filled.client) == before


# Declared keys, one slot


@pytest.fixture
def confined(shared_server: RealServer, client: redis.Redis) -> Iterator[object]:
    """Return a function: `confined(keys)` is a client of a user who may use only these keys."""
    opened: list[redis.Redis] = []

    def open_(keys: tuple[str, ...]) -> redis.Redis:
        client.execute_command(
            "ACL", "SETUSER", "t", "reset", "on", "nopass", "+@all", *(f"~{k}" for k in keys)
        )
        opened.append(connect(shared_server.url.replace(f"//:{shared_server.password}@", "//t:any@")))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()
    client.execute_command("ACL", "DELUSER", "t")


@each_call
def test_a_script_touches_only_the_keys_that_it_declares(
    filled: FilledWorld, valid: ValidCall, confined
) -> None:
    call = valid.build(filled)
    reply = call.send(confined(call.keys))
    assert valid.script in READERS or reply[0] == b"ok"


def test_a_user_who_may_touch_the_declared_keys_may_not_touch_an_undeclared_one(
    filled: FilledWorld, confined
) -> None:
    user = confined((filled.keys.meta,))
    reading = "return redis.call('EXISTS', ARGV[1])"
    assert user.exists(filled.keys.meta)  # On a cluster it takes the user to the right node.
    assert user.eval(reading, 0, filled.keys.meta) == 1
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|can't access"):
        user.eval(reading, 0, filled.keys.leases)


@each_call
def test_all_keys_of_a_script_are_in_one_slot(filled: FilledWorld, valid: ValidCall) -> None:
    call = valid.build(filled)
    assert len({key_slot(key.encode()) for key in call.keys}) == 1
