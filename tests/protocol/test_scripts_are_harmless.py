"""Every script sent twice, late, by a dead actor, on keys of a wrong type, and with exactly the keys it declares."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import NoPermissionError, ResponseError

from tests.protocol.tap import LUA, SCRIPTS, RawCall, dump
from tests.protocol.valid_calls import NUMBERED, VALID_CALLS, Furnished, ValidCall
from tests.protocol.world import failed, reason
from tests.support.redis_server import RealServer
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import WritesLost
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.membership import RunPlan


@pytest.fixture
def furnished(client: redis.Redis) -> Furnished:
    return Furnished(client)


READERS = ("read_desired", "snapshot", "sweep")
"""Scripts that answer with what they found, not with a word."""

each_call = pytest.mark.parametrize("valid", VALID_CALLS, ids=str)
each_numbered = pytest.mark.parametrize("valid", [v for v in VALID_CALLS if v.numbered], ids=str)


def keys_declared(script: str) -> int:
    """How many keys the script's head names at least."""
    text = (LUA / f"{script}.lua").read_text()
    return max(int(number) for number in re.findall(r"KEYS\[(\d+)", text))


def test_every_script_has_a_valid_call() -> None:
    assert {valid.script for valid in VALID_CALLS} == set(SCRIPTS)


@each_call
def test_a_valid_call_is_answered_with_what_it_asked_for(furnished: Furnished, valid: ValidCall) -> None:
    call = valid.build(furnished)
    reply = call.send(furnished.client)
    if valid.script not in READERS:
        assert reply[0] == b"ok"
    assert len(call.keys) >= keys_declared(valid.script)


# --- Sent twice -------------------------------------------------------------------------------------------


def stored(call: RawCall, reply: list) -> list:
    """What a numbered call is answered when it is sent again."""
    if call.name == "settle_and_claim":
        return reply
    texts = [part if isinstance(part, bytes) else str(part).encode() for part in reply[1:]]
    return [b"again", b" ".join(texts)]


@each_numbered
def test_a_numbered_call_sent_twice_gets_the_stored_answer_and_changes_nothing(
    furnished: Furnished, valid: ValidCall
) -> None:
    call = valid.build(furnished)
    before = dump(furnished.client)
    first = call.send(furnished.client)
    after = dump(furnished.client)
    assert after != before

    assert call.send(furnished.client) == stored(call, first)
    assert dump(furnished.client) == after


TWO_LINES = {"answer_detect", "append_event", "append_device_log"}
"""Scripts whose second copy is a second line, which does no harm."""

AGAIN: dict[str, list | None] = {
    "fence": [b"ok"],
    "register_operator": [b"ok"],
    "join": None,
    "leave": [b"ok"],
    "read_desired": None,
    "open_run": None,
    "promote": [b"ok", 0],
    "recover": [b"ok", 0, 0, 0],
    "renew_server_lease": None,
    "heartbeat": None,
    "sample_counters": [b"ok", 0],
    "snapshot": None,
    "sweep": [[], []],
}
"""What an unnumbered call is answered when it is sent again; None: the same as before."""


@pytest.mark.parametrize(
    "valid", [v for v in VALID_CALLS if not v.numbered and v.script not in TWO_LINES], ids=str
)
def test_an_unnumbered_call_sent_twice_changes_nothing_but_the_time_of_a_sign_of_life(
    furnished: Furnished, valid: ValidCall
) -> None:
    call = valid.build(furnished)
    moving = {"heartbeat": call.keys[1:4], "renew_server_lease": call.keys[1:2]}.get(valid.script, ())
    first = call.send(furnished.client)
    after = dump(furnished.client, but=moving)
    second = call.send(furnished.client)
    assert dump(furnished.client, but=moving) == after
    if valid.script == "snapshot":
        assert second[1:] == first[1:]
    elif valid.script in ("heartbeat", "renew_server_lease"):
        assert second[0] == b"ok"
    else:
        assert second == (AGAIN[valid.script] or first)


def test_every_unnumbered_script_says_how_a_second_copy_is_answered() -> None:
    assert set(AGAIN) | NUMBERED | TWO_LINES == set(SCRIPTS)


def test_an_answer_sent_twice_is_a_second_line_with_a_time_to_live(furnished: Furnished) -> None:
    furnished.mine.answer_detect("d1", b"here")
    furnished.last().send(furnished.client)
    key = furnished.keys.detect_answers("d1")
    assert furnished.client.lrange(key, 0, -1) == [b"here", b"here"]
    assert 0 < furnished.client.pttl(key) <= 60_000


def test_lines_told_twice_stand_twice_and_have_a_time_to_live(furnished: Furnished) -> None:
    furnished.mine.append_device_log(0, ["started"])
    furnished.last().send(furnished.client)
    key = furnished.keys.device_log(0)
    assert furnished.client.lrange(key, 0, -1) == [b"started", b"started"]
    assert 0 < furnished.client.pttl(key) <= 86_400_000


# --- Late -------------------------------------------------------------------------------------------------


def a_later_call(world: Furnished, call: RawCall) -> None:
    """Another call of the same actor."""
    for broker in (world.ctl, world.server, world.mine):
        if world.keys.actor(broker.actor.id) == call.keys[0]:
            if broker is world.mine:
                world.settle(broker, want=1)
            else:
                broker.set_desired(world.keys.desired_stop, {"somebody": "1"})
            return
    raise AssertionError("whose call was that?")


def test_a_claim_that_arrives_after_its_agent_heard_of_a_gap_finds_the_actor_given_up(
    furnished: Furnished,
) -> None:
    """Agents repeat a call until it is answered, so this is a copy of a call that Redis answered and forgot."""
    late = furnished.held(lambda: furnished.mine.settle_and_claim(0, [], 1))
    with pytest.raises(WritesLost):
        furnished.settle(furnished.mine, want=1)
    furnished.mine.fence(furnished.mine.actor.id)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


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
    furnished: Furnished, valid: ValidCall, arrived: bool
) -> None:
    call = valid.build(furnished)
    if arrived:
        call.send(furnished.client)
    a_later_call(furnished, call)
    before = dump(furnished.client)
    assert call.send(furnished.client) == [b"stale"]
    assert dump(furnished.client) == before


@each_numbered
def test_a_numbered_call_of_a_dead_actor_changes_nothing(furnished: Furnished, valid: ValidCall) -> None:
    call = valid.build(furnished)
    furnished.client.hset(call.keys[0], "dead", "1")
    before = dump(furnished.client)
    assert call.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


@each_numbered
def test_a_numbered_call_of_an_actor_whose_record_has_ended_changes_nothing(
    furnished: Furnished, valid: ValidCall
) -> None:
    call = valid.build(furnished)
    furnished.client.delete(call.keys[0])
    before = dump(furnished.client)
    assert call.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_recover_leaves_an_actor_that_lives_alone(furnished: Furnished) -> None:
    furnished.expire(furnished.mine)
    late = furnished.held(lambda: furnished.neighbour.recover(furnished.mine.actor.id, reason("crashed")))
    furnished.mine.heartbeat(0, 0, "running", b"alive after all")
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"alive"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_recover_leaves_the_tasks_to_those_who_claimed_them_since(
    furnished: Furnished,
) -> None:
    furnished.fence(furnished.mine)
    late = furnished.last()
    assert furnished.claim(furnished.neighbour, 10)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"ok", 0, 0, 0]
    assert dump(furnished.client) == before


def test_a_late_copy_of_promote_finds_nothing_due(furnished: Furnished) -> None:
    furnished.client.zadd(furnished.at.delayed, {furnished.client.zrange(furnished.at.delayed, 0, 0)[0]: 1})
    assert furnished.ctl.promote(0) == 1
    late = furnished.last()
    furnished.settle(furnished.mine, *failed(furnished.claims[0], "again"))
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"ok", 0]
    assert dump(furnished.client) == before


def test_a_late_copy_of_join_does_not_resurrect_an_actor_that_was_marked_dead(furnished: Furnished) -> None:
    agent = furnished.agent(3)
    late = next(call for call in furnished.tap.log[::-1] if call.name == "join")
    furnished.fence(agent)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_join_does_not_bring_back_an_actor_that_left(furnished: Furnished) -> None:
    agent = furnished.agent(3)
    late = next(call for call in furnished.tap.log[::-1] if call.name == "join")
    agent.leave(3, 0)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_join_does_not_take_a_device_back_from_a_successor(furnished: Furnished) -> None:
    agent = furnished.agent(3)
    late = next(call for call in furnished.tap.log[::-1] if call.name == "join")
    furnished.agent(3, holder=agent.actor.id, gone=True)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_the_only_copy_of_a_join_that_arrives_late_does_not_displace_who_came_since(
    furnished: Furnished,
) -> None:

    slow = furnished.broker(Actor.agent(0))
    late = furnished.held(lambda: slow.join(3, 0, this_process()))
    furnished.agent(3)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"changed"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_leave_does_not_touch_the_successor_on_the_device(furnished: Furnished) -> None:
    furnished.mine.leave(0, 0)
    late = furnished.last()
    furnished.broker(Actor.operator()).recover(furnished.mine.actor.id, reason("left"))
    successor = furnished.agent(0)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"ok"]
    assert dump(furnished.client) == before
    successor.heartbeat(0, 0, "running", b"still here")


def test_a_late_copy_of_a_servers_leave_does_not_touch_its_successor(furnished: Furnished) -> None:
    furnished.server.leave()
    late = furnished.last()
    successor = furnished.new_server(mode="resume")
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"ok"]
    assert dump(furnished.client) == before
    successor.renew_server_lease()


def test_a_late_report_does_not_resurrect_an_actor_that_was_marked_dead(furnished: Furnished) -> None:
    late = furnished.held(lambda: furnished.mine.heartbeat(0, 0, "running", b"late"))
    furnished.fence(furnished.mine)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_report_of_an_agent_whose_device_was_purged_changes_nothing(furnished: Furnished) -> None:
    late = furnished.held(lambda: furnished.mine.heartbeat(0, 0, "running", b"late"))
    furnished.expire(furnished.mine)
    assert furnished.ctl.purge_device(0)
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_renew_changes_nothing_once_a_successor_holds_the_namespace(
    furnished: Furnished,
) -> None:
    late = furnished.held(furnished.server.renew_server_lease)
    furnished.successor()
    before = dump(furnished.client)
    assert late.send(furnished.client)[0] == b"superseded"
    assert dump(furnished.client) == before


def test_a_late_copy_of_enter_leaves_the_numbers_of_an_actor_as_they_are(furnished: Furnished) -> None:
    ctl = furnished.operator()
    late = furnished.last()
    ctl.set_desired(furnished.keys.desired_stop, {"somebody": "1"})
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"ok"]
    assert dump(furnished.client) == before


@pytest.mark.parametrize("mode", ["resume", "fresh"])
def test_a_late_copy_of_open_run_does_not_take_the_namespace_back(furnished: Furnished, mode: str) -> None:
    furnished.successor(mode=mode)
    late = furnished.last()
    furnished.feed(3)
    furnished.successor()
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"lost"]
    assert dump(furnished.client) == before


def test_a_late_copy_of_open_run_drops_nothing_that_was_allotted_since(furnished: Furnished) -> None:
    furnished.successor(mode="fresh")
    late = furnished.last()
    furnished.feed(3)
    before = dump(furnished.client)
    assert late.send(furnished.client)[0] == b"ok"
    assert dump(furnished.client) == before


def test_the_only_copy_of_an_open_run_that_arrives_after_another_servers_is_refused(
    furnished: Furnished,
) -> None:

    slow = furnished.broker(Actor.server())
    plan = RunPlan(**(furnished.plan | {"mode": "fresh"}))
    late = furnished.held(lambda: slow.open_run(plan, this_process(), gone=furnished.server.actor.id))
    furnished.successor()
    before = dump(furnished.client)
    assert late.send(furnished.client) == [b"changed"]
    assert dump(furnished.client) == before


# --- Keys of a wrong type, keys that are missing -----------------------------------------------------------


EACH_KEY = [
    pytest.param(valid, index, id=f"{valid}-KEYS[{index + 1}]")
    for valid in VALID_CALLS
    for index in range(
        {"open_run": 9 + 12 * (3 if valid.variant == "fresh" else 2) + (0 if valid.variant == "first" else 2),
         "sweep": 6, "sample_counters": 13, "snapshot": 24, "set_desired": 4}.get(valid.script, keys_declared(valid.script))
    )
]  # fmt: skip


@pytest.mark.parametrize(("valid", "index"), EACH_KEY)
def test_a_key_of_a_wrong_type_stops_a_script_before_its_first_write(
    furnished: Furnished, valid: ValidCall, index: int
) -> None:
    call = valid.build(furnished)
    key = call.keys[index]
    furnished.client.set(key, "not ours")
    before = dump(furnished.client)
    if index in valid.unread:
        assert call.send(furnished.client)[0] == b"ok"
        return
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        call.send(furnished.client)
    assert dump(furnished.client) == before


@pytest.mark.parametrize(("valid", "index"), EACH_KEY)
def test_a_missing_key_never_leaves_a_script_half_done(
    furnished: Furnished, valid: ValidCall, index: int
) -> None:
    call = valid.build(furnished)
    furnished.client.delete(call.keys[index])
    before = dump(furnished.client)
    try:
        call.send(furnished.client)
    except ResponseError:
        assert dump(furnished.client) == before


# --- Declared keys, one slot ------------------------------------------------------------------------------


@pytest.fixture
def confined(shared_server: RealServer, client: redis.Redis) -> Iterator[object]:
    """`confined(keys)`: a client of a user who may touch these keys and no others."""
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
    furnished: Furnished, valid: ValidCall, confined
) -> None:
    call = valid.build(furnished)
    reply = call.send(confined(call.keys))
    assert valid.script in READERS or reply[0] == b"ok"


def test_a_user_who_may_touch_the_declared_keys_may_not_touch_an_undeclared_one(
    furnished: Furnished, confined
) -> None:
    user = confined((furnished.keys.meta,))
    reading = "return redis.call('EXISTS', ARGV[1])"
    assert user.exists(furnished.keys.meta)  # On a cluster it takes the user to the right node.
    assert user.eval(reading, 0, furnished.keys.meta) == 1
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|can't access"):
        user.eval(reading, 0, furnished.keys.leases)


@each_call
def test_all_keys_of_a_script_are_in_one_slot(furnished: Furnished, valid: ValidCall) -> None:
    call = valid.build(furnished)
    assert len({key_slot(key.encode()) for key in call.keys}) == 1
