"""Whatever Redis does, a caller gets the right kind of error, in one sentence without a password."""

from __future__ import annotations

import re

import pytest
import redis

from tests.protocol.connection.sentence import sentence
from tests.protocol.tap import dump
from tests.protocol.world import World, done, failed_for_good, id_of
from tests.support.redis_server import RealServer, free_port
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.errors import NoNamespace, RedisRefused, RedisUnavailable

SECRET = "s3cret-in-the-url"


def operator(url: str, **how: object) -> Broker:
    return Broker(connect(url), "t", Actor.operator(), address="127.0.0.1:1/0", **how)  # type: ignore[arg-type]


@pytest.fixture
def lone(own_server: RealServer) -> World:
    """Return a namespace on a server that only this test uses."""
    return World(connect(own_server.url))  # type: ignore[arg-type]


def test_a_wrong_password_is_refused(redis_url: str) -> None:
    wrong = re.sub(":[^:@]*@", f":{SECRET}@", redis_url)
    with pytest.raises(RedisRefused) as refused:
        operator(wrong).register_operator()
    assert "refuses the password; pass the right one in --redis" in sentence(refused.value, SECRET)


def test_no_password_where_one_is_needed_is_refused(redis_url: str) -> None:
    with pytest.raises(RedisRefused) as refused:
        operator(re.sub("//.*@", "//", redis_url)).register_operator()
    assert "refuses the password" in sentence(refused.value)


def test_a_port_without_a_listener_is_worth_a_retry() -> None:
    with pytest.raises(RedisUnavailable) as away:
        operator(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0").register_operator()
    assert "cannot be reached: Connection refused" in sentence(away.value, SECRET)


def test_a_server_that_does_not_answer_is_worth_a_retry(own_server: RealServer) -> None:
    broker = Broker(own_server.client(socket_timeout=0.2), "t", Actor.operator(), address="here")
    with pytest.raises(NoNamespace):
        broker.register_operator()
    own_server.freeze()
    try:
        with pytest.raises(RedisUnavailable) as away:
            broker.register_operator()
    finally:
        own_server.thaw()
    assert "did not answer in time" in sentence(away.value, own_server.password)


def test_a_user_without_the_rights_is_refused(client: redis.Redis, redis_url: str) -> None:
    client.execute_command("ACL", "SETUSER", "weak", "on", f">{SECRET}", "~*", "+@read", "+@connection")
    try:
        with pytest.raises(RedisRefused) as refused:
            operator(re.sub("//.*@", f"//weak:{SECRET}@", redis_url)).register_operator()
    finally:
        client.execute_command("ACL", "DELUSER", "weak")
    assert "denies this user a right that MutiTask needs" in sentence(refused.value, SECRET)


def test_a_key_of_another_program_is_refused(world: World) -> None:
    world.client.set(world.at.waiting, "somebody's")
    with pytest.raises(RedisRefused) as refused:
        world.server.allot(0, 0, world.items(0, 1))
    assert "holds a key of this namespace that MutiTask did not write; choose another --name" in sentence(
        refused.value
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis://host:port",
        "redis://host:99999999",
        "",
        "host:6379",
        f"redis://:{SECRET}/x@host:6379/0",
        f"redis://:{SECRET}@host:{SECRET}/0",
        f"redis://user:{SECRET}@[::1/0",
        f"redis://:{SECRET}@host:6379/0?socket_timeout={SECRET}",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises((RedisRefused, RedisUnavailable)) as refused:
        operator(url).register_operator()
    sentence(refused.value, SECRET)
    assert refused.value.__cause__ is None or not isinstance(refused.value, RedisRefused)


def test_a_replica_takes_no_writes_until_it_is_the_primary(lone: World, own_server: RealServer) -> None:
    lone.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    with pytest.raises(RedisUnavailable) as away:
        lone.feed(1)
    assert "is a replica and takes no writes" in sentence(away.value, own_server.password)
    lone.client.execute_command("REPLICAOF", "NO", "ONE")
    lone.feed(1)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("LOADING Redis is loading", "is not ready: LOADING Redis is loading"),
        ("MASTERDOWN Link with MASTER is down", "is not ready: MASTERDOWN Link with MASTER is down"),
        ("NOREPLICAS Not enough good replicas to write. script: f0, on @user_script:9.", "is not ready: NOREPLICAS"),
        ("BUSY Redis is busy running a script.", "is busy with a script of another program"),
        ("READONLY You can't write against a read only replica.", "is a replica and takes no writes"),
        (
            "MISCONF Errors writing to the AOF file: No space left on device script: f0, on @user_script:9.",
            "cannot write to its disk and takes no writes (Errors writing to the AOF file: No space left on device)",
        ),
        (
            "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "cannot write to its disk and takes no writes",
        ),
    ],
)  # fmt: skip
def test_a_temporary_refusal_is_worth_a_retry(reply: str, said: str) -> None:
    error = translate(redis.ResponseError(reply), "here")
    assert isinstance(error, RedisUnavailable)
    assert said in sentence(error, "no password here")
    assert "user_script" not in str(error)


# Out of memory


@pytest.fixture
def full(lone: World) -> World:
    """Return a namespace whose server is out of memory. 20 tasks of 100 kB wait, and three are claimed."""
    lone.mine = lone.agent()  # type: ignore[attr-defined]
    lone.feed(25, body=b"x" * 100_000)
    lone.ids = lone.claim(lone.mine, 5)  # type: ignore[attr-defined]
    lone.ctl = lone.operator()  # type: ignore[attr-defined]
    lone.settle(lone.mine, *done(lone.ids[3], b"y" * 100_000), *failed_for_good(lone.ids[4]))  # type: ignore[attr-defined]
    lone.client.config_set("maxmemory", 1_000_000)
    return lone


def test_without_memory_allot_is_refused_and_writes_nothing(full: World) -> None:
    before = dump(full.client)
    with pytest.raises(RedisUnavailable) as away:
        full.server.allot(0, full.cursor(), full.items(full.cursor(), 3))
    assert "is out of memory (maxmemory); raise it or drain results" in sentence(away.value)
    assert dump(full.client) == before
    full.client.config_set("maxmemory", 0)
    assert full.server.allot(0, full.cursor(), full.items(full.cursor(), 3)).taken == 3


def test_without_memory_a_settle_passes_and_frees_memory(full: World) -> None:
    used = full.client.info("memory")["used_memory"]
    mine, ids = full.mine, full.ids  # type: ignore[attr-defined]
    claim = mine.settle_and_claim(0, [*done(ids[0], "a"), *done(ids[1], "b"), *failed_for_good(ids[2])], 3)
    assert claim.refused == 0 and len(claim.items) == 3
    assert full.counters()["done"] == "3"
    mine.settle_and_claim(0, [part for item in claim.items for part in done(id_of(item))], 0)
    assert full.client.info("memory")["used_memory"] < used
    assert full.balanced()


def test_without_memory_a_new_operator_can_free_memory(full: World) -> None:
    ctl = full.operator()
    assert ctl.drain(0, 0, 10) == 1
    assert ctl.delete(0, [full.ids[4]]) == 1  # type: ignore[attr-defined]
    assert full.balanced()


def test_without_memory_tasks_of_an_ended_lease_are_recovered(full: World) -> None:
    full.client.config_set("maxmemory", 0)
    other = full.agent(1)
    full.expire(full.mine)  # type: ignore[attr-defined]
    full.client.config_set("maxmemory", 1_000_000)
    assert other.recover(full.mine.actor.id, b"") == 3  # type: ignore[attr-defined]
    assert full.balanced()
