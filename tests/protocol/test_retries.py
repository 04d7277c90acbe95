"""Retry policies in the claim script: who runs again, when, where in the channel, and why a task is given up."""

from __future__ import annotations

import pytest
import redis

from tests.protocol.world import World, done, failed, failed_for_good, handed_back
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.reasons import Reason, read_reasons
from worker_agent.protocol.retry_policy import Retry
from worker_agent.protocol.settlements import AS_POLICY, FAILED, GIVE_UP, RETRY, failure

VALUE_ERROR = "builtins:ValueError,builtins:Exception"
KEY_ERROR = "builtins:KeyError,builtins:LookupError,builtins:Exception"


def reason(trace: str = "") -> bytes:
    """Return the reason of a failed run as an agent packs it."""
    fields = {"at": 1, "device": 0, "stage": "run", "type": "E", "message": "m", "traceback": trace}
    return wire.pack(fields)


def fails(
    id_: str, names: str = VALUE_ERROR, mode: bytes = AS_POLICY, after_ms: int | None = None, trace: str = ""
) -> tuple[str, bytes, bytes]:
    return id_, FAILED, failure(reason(trace), mode, after_ms, names)


def world_with(client: redis.Redis, **policies: Retry) -> World:
    """Return a namespace with a policy for all channels (`retry`) and policies for single ones (`retry_0`)."""
    texts = {name.replace("_", ":"): policy.encode() for name, policy in policies.items()}
    return World(client, policies=texts)


def reasons_of(world: World, id_: str) -> list[Reason]:
    traces = {
        digest.decode(): text.decode() for digest, text in world.client.hgetall(world.at.traces).items()
    }
    return read_reasons(world.client.hget(world.at.reasons, id_), traces)


def delays(world: World, id_: str, runs: int) -> list[float]:
    """Let a task fail, and promote it, `runs` times. Return each delay in seconds, as the sorted set has it."""
    agent, found = world.agent(), []
    for _ in range(runs):
        assert world.claim(agent) == [id_]
        before = agent.now_ms()
        world.settle(agent, fails(id_))
        after = agent.now_ms()
        [(item, due)] = world.client.zrange(world.at.delayed, 0, -1, withscores=True)
        assert before <= due
        found.append((due - (before + after) / 2) / 1000)
        world.client.zadd(world.at.delayed, {item: 1})
        agent.promote(0)
    return found


def test_each_delay_is_longer_by_the_factor_up_to_the_longest(client: redis.Redis) -> None:
    world = world_with(client, retry=Retry(times=5, delay=100, factor=3, max_delay=1000, jitter=0))
    [id_] = world.feed(1)
    assert delays(world, id_, 4) == pytest.approx([100, 300, 900, 1000], abs=5)


def test_jitter_changes_delays_by_at_most_its_part(client: redis.Redis) -> None:
    world = world_with(client, retry=Retry(times=1, delay=1000, factor=1, max_delay=5000, jitter=0.5))
    agent, ids = world.agent(), world.feed(40)
    world.settle(agent, *(fails(id_) for id_ in world.claim(agent)))
    now = agent.now_ms()
    due = [score - now for _, score in world.client.zrange(world.at.delayed, 0, -1, withscores=True)]
    assert len(due) == len(ids) and 490_000 < min(due) < 700_000 and 1_300_000 < max(due) <= 1_500_000
    assert len(set(due)) > 30


def test_a_channels_own_policy_goes_before_the_one_for_all(client: redis.Redis) -> None:
    world = world_with(client, retry=Retry(times=0), retry_1=Retry(times=1))
    agent = world.agent(0, None)
    for channel, waits in ((0, []), (1, [0])):
        [id_] = world.feed(1, channel)
        world.claim(agent, channel=channel)
        world.settle(agent, fails(id_), channel=channel)
        assert world.waiting(channel) == [id_ for _ in waits]


@pytest.mark.parametrize(
    ("policy", "names", "given_up"),
    [
        (Retry(never=ValueError), VALUE_ERROR, "the retry policy never retries this error"),
        (Retry(never=LookupError), KEY_ERROR, "the retry policy never retries this error"),
        (Retry(never=LookupError), VALUE_ERROR, ""),
        (Retry(only=LookupError), VALUE_ERROR, "the retry policy retries only other errors"),
        (Retry(only=LookupError), "", "the retry policy retries only other errors"),
        (Retry(only=(KeyError, OSError)), KEY_ERROR, ""),
        (Retry(only=LookupError, never=KeyError), KEY_ERROR, "the retry policy never retries this error"),
        (Retry(times=0), VALUE_ERROR, "no retries were left"),
    ],
)
def test_a_policy_chooses_by_the_classes_of_the_error(
    client: redis.Redis, policy: Retry, names: str, given_up: str
) -> None:
    world = world_with(client, retry=policy)
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, names))
    assert world.waiting() == ([] if given_up else [id_])
    if given_up:
        assert reasons_of(world, id_)[-1].given_up == given_up
    assert world.balanced()


class Local(Exception):
    """A class that a job file could define."""


@pytest.mark.parametrize(
    ("names", "is_retried"),
    [
        ("job:Local,builtins:Exception", True),
        ("mutitask_job_x:Local,builtins:Exception", True),
        ("job:NotLocal,builtins:Exception", False),
        ("job:Outer.Local,builtins:Exception", False),
    ],
)
def test_a_class_of_the_job_file_is_known_by_its_name_alone(
    client: redis.Redis, names: str, is_retried: bool
) -> None:
    text = Retry(only=Local).encode(own_modules=[__name__])
    assert text.endswith(" :Local -")
    world = World(client, policies={"retry": text})
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, names))
    assert world.waiting() == ([id_] if is_retried else [])


def test_a_task_that_asks_for_a_retry_gets_it_whatever_the_policy_says(client: redis.Redis) -> None:
    world = world_with(client, retry=Retry(times=1, never=Exception))
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, mode=RETRY, after_ms=30_000))
    [(item, due)] = world.client.zrange(world.at.delayed, 0, -1, withscores=True)
    assert 29_000 < due - agent.now_ms() <= 30_000
    world.client.zadd(world.at.delayed, {item: 1})
    agent.promote(0)
    world.claim(agent)
    world.settle(agent, fails(id_, mode=RETRY, after_ms=30_000))
    first, last = reasons_of(world, id_)
    assert (first.delay_ms, first.given_up) == (30_000, "")
    assert (last.delay_ms, last.given_up) == (None, "no retries were left")


def test_a_task_that_gives_up_fails_at_once(world: World) -> None:
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, mode=GIVE_UP))
    assert [reason.given_up for reason in reasons_of(world, id_)] == ["the task function raised GiveUp"]
    assert world.client.hget(world.at.failed, id_)[22:25] == b"010"


@pytest.mark.parametrize("carried", [b"", b"d", b"d  \0", b"\0\0", b"z 5 a\0", b"r x y\0", b"\xff" * 40])
def test_an_agent_that_carries_nonsense_gets_the_policy(world: World, carried: bytes) -> None:
    agent, [id_] = world.agent(), world.feed(1)
    for _ in range(4):
        world.claim(agent)
        world.settle(agent, (id_, FAILED, carried))
    assert world.counts()["failed"] == 1 and world.balanced()


def test_a_task_that_is_retried_at_once_goes_before_all_waiting_tasks(world: World) -> None:
    agent, ids = world.agent(), world.feed(6)
    claimed = world.claim(agent, 3)
    world.settle(agent, fails(claimed[0]), fails(claimed[1]), *handed_back(claimed[2]))
    assert world.waiting() == ids


def test_delayed_tasks_come_back_to_the_front_the_first_due_first(client: redis.Redis) -> None:
    world = world_with(client, retry=Retry(delay=60))
    agent, ids = world.agent(), world.feed(4)
    a, b = world.claim(agent, 2)
    world.settle(agent, *failed(a), *failed(b))
    for item in world.client.zrange(world.at.delayed, 0, -1):
        world.client.zadd(world.at.delayed, {item: 2 if a.encode() in item else 1})
    agent.promote(0)
    assert world.waiting() == [b, a, *ids[2:]]


# A task's own options


def with_options(item: bytes, **options: float) -> bytes:
    return list_item.with_options(item, list_item.Options(**options))


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_tasks_own_retries_go_before_the_policy(world: World, retries: int) -> None:
    agent = world.agent()
    [item] = world.items(0, 1)
    world.server.allot(0, 0, [with_options(item, retries=retries)])
    runs = 0
    while claimed := world.claim(agent):
        world.settle(agent, fails(claimed[0]))
        runs += 1
    assert runs == retries + 1 and world.balanced()


def test_an_item_with_a_delay_is_delayed_and_takes_no_place(client: redis.Redis) -> None:
    world = World(client, capacity=2)
    items = world.items(0, 6)
    for place in (0, 2, 3):
        items[place] = with_options(items[place], delay_ms=60_000)
    answer = world.server.allot(0, 0, items)
    assert (answer.taken, answer.waiting, answer.why) == (5, 2, "full")
    assert world.counts()["delayed"] == 3 and world.balanced()
    due = [
        score - world.server.now_ms() for _, score in client.zrange(world.at.delayed, 0, -1, withscores=True)
    ]
    assert all(50_000 < left <= 60_000 for left in due)
    agent = world.agent()
    for item in client.zrange(world.at.delayed, 0, -1):
        client.zadd(world.at.delayed, {item: 1})
    assert agent.promote(0) == 3
    assert len(world.claim(agent)) == 5


def test_an_edited_task_keeps_its_options(world: World) -> None:
    agent = world.agent()
    [item] = world.items(0, 1)
    world.server.allot(0, 0, [with_options(item, retries=0, timeout=2.5)])
    [id_] = world.claim(agent)
    world.settle(agent, fails(id_))
    assert world.operator().edit(0, id_, wire.pack("new"))
    [edited] = world.client.lrange(world.at.waiting, 0, -1)
    parsed = list_item.parse(edited)
    assert parsed.options == list_item.Options(timeout=2.5, retries=0)
    assert wire.unpack(parsed.body) == "new" and (parsed.attempt, parsed.crashes) == (0, 0)


# Tracebacks


def test_equal_tracebacks_are_kept_once_and_go_with_their_last_use(world: World) -> None:
    agent, ctl = world.agent(), world.operator()
    ids = world.feed(6)
    world.claim(agent)
    world.settle(agent, *(fails(id_, mode=GIVE_UP, trace="same " * 50) for id_ in ids[:5]))
    world.settle(agent, fails(ids[5], mode=GIVE_UP, trace="another " * 50))
    assert world.client.hlen(world.at.traces) == 2
    assert sorted(map(int, world.client.hvals(world.at.trace_uses))) == [1, 5]
    assert [reason.traceback for reason in reasons_of(world, ids[0])] == ["same " * 50]
    assert ctl.delete(0, ids[:2]) == 2 and ctl.edit(0, ids[2], wire.pack(1)) and ctl.reload(0, [ids[3]]) == 1
    assert sorted(map(int, world.client.hvals(world.at.trace_uses))) == [1, 1]
    ctl.delete(0, ids)
    assert world.client.exists(world.at.traces, world.at.trace_uses) == 0


def test_a_task_that_succeeds_at_last_leaves_no_traceback_behind(world: World) -> None:
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, trace="trace"))
    world.claim(agent)
    world.settle(agent, *done(id_))
    assert world.client.exists(world.at.traces, world.at.trace_uses, world.at.retry_reasons) == 0


def test_a_fresh_run_forgets_the_tracebacks(world: World) -> None:
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    world.settle(agent, fails(id_, mode=GIVE_UP, trace="trace"))
    world.successor(mode="fresh")
    assert world.client.exists(world.at.traces, world.at.trace_uses) == 0


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"\xc1",
        wire.pack(5),
        wire.pack([1]),
        wire.pack({"traceback": 7}),
        wire.pack({"trace": {}}),
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_reasons_that_an_agent_forged_harm_nobody(world: World, written: bytes) -> None:
    agent, ctl, ids = world.agent(), world.operator(), world.feed(2)
    world.claim(agent)
    world.settle(agent, *((id_, FAILED, b"g  \0" + written) for id_ in ids))
    world.client.hset(world.at.reasons, ids[1], written)
    assert ctl.reload_all(0) == 2 and world.balanced()


# Settings of a run


def test_a_resumed_run_gets_the_new_policies_and_keeps_its_rates_unless_others_are_given(
    client: redis.Redis,
) -> None:
    world = World(client, policies={"retry": "1", "retry:0": "2"}, rates={"rate:1": "10 1000"})
    world.successor(policies={"retry": "3"})
    meta = client.hgetall(world.keys.meta)
    assert meta[b"retry"] == b"3" and b"retry:0" not in meta
    assert client.hget(world.keys.desired_channels, "rate:1") == b"10 1000"
    world.successor(rates={"rate:0": "1 1000"})
    assert client.hgetall(world.keys.desired_channels) == {b"rate:0": b"1 1000"}
    world.successor(mode="fresh", rates={})
    assert client.exists(world.keys.desired_channels) == 0


def test_an_undecodable_task_says_that_no_run_can_succeed(world: World) -> None:
    agent, [id_] = world.agent(), world.feed(1)
    world.claim(agent)
    [(_, outcome, _)] = failed_for_good(id_)
    world.settle(agent, (id_, outcome, reason()))
    assert reasons_of(world, id_)[-1].given_up == "no run can succeed"
