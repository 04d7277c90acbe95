"""Whatever Redis does, a caller gets the right kind of error, in one sentence, without a password; or is patient."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis

from tests.protocol.tap import SCRIPTS, dump
from tests.protocol.world import ById, World, done, failed_for_good, id_of
from tests.support.redis_server import RealServer, free_port
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.connection.retry import NO_RETRIES, RetryPolicy
from worker_agent.protocol.errors import MutiTaskError, NoNamespace, RedisRefused, RedisUnavailable
from worker_agent.protocol.scripts import script

SECRET = "s3cret-in-the-url"


def sentence(error: MutiTaskError, *secrets: str) -> str:
    """The error's text, checked to be one line without a password."""
    text = str(error)
    assert text and "\n" not in text and text == text.strip()
    assert not any(secret in text for secret in secrets)
    assert "Errno" not in text and "Traceback" not in text
    return text


def operator(url: str, **how: object) -> Broker:
    return Broker(connect(url), "t", Actor.operator(), address="127.0.0.1:1/0", **how)  # type: ignore[arg-type]


@pytest.fixture
def lone(own_server: RealServer) -> World:
    """A namespace on a server of the test's own."""
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


def test_a_port_on_which_nobody_listens_is_worth_trying_again() -> None:
    with pytest.raises(RedisUnavailable) as away:
        operator(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0").register_operator()
    assert "cannot be reached: Connection refused" in sentence(away.value, SECRET)


def test_a_server_that_does_not_answer_is_worth_trying_again(own_server: RealServer) -> None:
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


def test_a_key_that_is_not_ours_is_refused(world: World) -> None:
    world.client.set(world.at.waiting, "somebody's")
    with pytest.raises(RedisRefused) as refused:
        world.server.allot(0, 0, world.items(0, 1))
    assert "holds a key of this namespace that MutiTask did not write; choose another --name" in sentence(refused.value)


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


def test_a_replica_takes_no_writes_until_it_is_made_the_primary(lone: World, own_server: RealServer) -> None:
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
def test_a_server_that_may_take_writes_again_later_is_waited_for(reply: str, said: str) -> None:
    error = translate(redis.ResponseError(reply), "here")
    assert isinstance(error, RedisUnavailable)
    assert said in sentence(error, "no password here")
    assert "user_script" not in str(error)


# --- Out of memory ----------------------------------------------------------------------------------------


@pytest.fixture
def full(lone: World) -> World:
    """Out of memory: 20 tasks of 100 kB wait, and two are claimed."""
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


def test_without_memory_a_settle_passes_and_frees(full: World) -> None:
    used = full.client.info("memory")["used_memory"]
    mine, ids = full.mine, full.ids  # type: ignore[attr-defined]
    claim = mine.settle_and_claim(0, [*done(ids[0], "a"), *done(ids[1], "b"), *failed_for_good(ids[2])], 3)
    assert claim.refused == 0 and len(claim.items) == 3
    assert full.counters()["done"] == "3"
    mine.settle_and_claim(0, [part for item in claim.items for part in done(id_of(item))], 0)
    assert full.client.info("memory")["used_memory"] < used
    assert full.balanced()


def test_without_memory_what_frees_memory_passes_for_whoever_comes_to_do_it(full: World) -> None:
    ctl = full.operator()
    assert ctl.drain(0, 0, 10) == 1
    assert ctl.delete(0, [full.ids[4]]) == 1  # type: ignore[attr-defined]
    assert full.balanced()


def test_without_memory_the_dead_are_recovered_all_the_same(full: World) -> None:
    full.client.config_set("maxmemory", 0)
    other = full.agent(1)
    full.expire(full.mine)  # type: ignore[attr-defined]
    full.client.config_set("maxmemory", 1_000_000)
    assert other.recover(full.mine.actor.id, b"") == 3  # type: ignore[attr-defined]
    assert full.balanced()


# --- Healing ----------------------------------------------------------------------------------------------


def test_forgotten_scripts_are_sent_again(world: World) -> None:
    agent = world.agent()
    world.feed(2)
    world.client.script_flush()
    [id_] = world.claim(agent, 1)
    world.client.script_flush()
    assert world.settle(agent, *done(id_)).refused == 0
    assert world.balanced()


def test_a_connection_killed_between_calls_costs_one_error_and_no_task(world: World, redis_url: str) -> None:
    agent = ById(connect(redis_url), "t", world.agent().actor, address="here", retry=RetryPolicy(max_tries=3))
    world.feed(4)
    for _ in range(4):
        own = agent.query("CLIENT", "ID")
        world.client.execute_command("CLIENT", "KILL", "ID", own)
        [item] = agent.settle_and_claim(0, [], 1).items
        agent.settle_and_claim(0, done(id_of(item)), 0)
    assert world.counters()["done"] == "4"
    assert world.balanced()


class LosesAnswers:
    """A real client whose connection is killed after the server did what was asked, before the answer is read."""

    def __init__(self, client: redis.Redis, admin: redis.Redis) -> None:
        self.client = client
        self.admin = admin
        self.losing = False
        for name in SCRIPTS:  # A lost NOSCRIPT would be no lost answer.
            admin.script_load(script(name).source)

    def execute_command(self, *command: object) -> object:
        if command[0] != "EVALSHA" or not self.losing:
            return self.client.execute_command(*command)
        self.losing = False
        connection = self.client.connection_pool.get_connection()
        try:
            connection.send_command("CLIENT", "ID")
            own = connection.read_response()
            connection.send_command("CLIENT", "REPLY", "SKIP")
            connection.send_command(*command)
            connection.send_command("PING")
            connection.read_response()
            self.admin.execute_command("CLIENT", "KILL", "ID", own)
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()
            self.client.connection_pool.release(connection)


def test_an_answer_lost_with_its_connection_is_asked_for_again_and_comes(
    world: World, redis_url: str
) -> None:
    wire_ = LosesAnswers(connect(redis_url), world.client)
    agent = ById(wire_, "t", world.agent().actor, address="here", retry=RetryPolicy(max_tries=5))
    ids = world.feed(4)
    agent.actor_on(0)  # On a cluster it finds the node.
    for _ in range(4):
        wire_.losing = True
        [item] = agent.settle_and_claim(0, [], 1).items
        wire_.losing = True
        assert agent.settle_and_claim(0, done(id_of(item), id_of(item)), 0).refused == 0
    assert len(world.results()) == 4
    assert [wire_id for line in world.results() for wire_id in ids if wire_id.encode() in line] == ids
    assert world.balanced()


def test_an_impatient_caller_learns_of_a_killed_connection_and_may_go_on(
    world: World, redis_url: str
) -> None:
    wire_ = LosesAnswers(connect(redis_url), world.client)
    ctl = Broker(wire_, "t", world.operator().actor, address="here", retry=NO_RETRIES)
    ctl.actor_on(0)  # On a cluster it finds the node.
    wire_.losing = True
    with pytest.raises(RedisUnavailable) as away:
        ctl.add_devices(1)
    sentence(away.value)
    assert ctl.add_devices(1) == 4


# --- RetryPolicy ---------------------------------------------------------------------------------------------


def failing(times: int, error: Callable[[], Exception] = lambda: RedisUnavailable("away")):
    """A call that fails so many times, and the times at which it was tried."""
    tried: list[float] = []

    def call() -> str:
        tried.append(time.monotonic())
        if len(tried) <= times:
            raise error()
        return "back"

    return call, tried


def test_a_retry_policy_backs_off_and_tells_once_when_it_waits_and_once_when_redis_is_back() -> None:
    told: list[str] = []
    retry = RetryPolicy(
        on_wait=lambda error: told.append(str(error)), on_recovered=lambda: told.append("back")
    )
    call, tried = failing(4)
    assert retry(call) == "back"
    assert told == ["away", "back"]
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert all(gap >= 0.05 * 2**step * 0.99 for step, gap in enumerate(gaps))
    assert retry(failing(0)[0]) == "back"
    assert told == ["away", "back"]


def test_a_retry_policy_gives_up_after_its_tries() -> None:
    call, tried = failing(9)
    with pytest.raises(RedisUnavailable):
        RetryPolicy(max_tries=2)(call)
    assert len(tried) == 2


def test_a_retry_policy_does_not_repeat_what_was_refused() -> None:
    call, tried = failing(9, lambda: RedisRefused("no"))
    with pytest.raises(RedisRefused):
        RetryPolicy()(call)
    assert len(tried) == 1


def test_a_retry_policy_wakes_at_once_and_gives_up_soon_after_its_event() -> None:
    give_up = threading.Event()
    call, tried = failing(1_000)
    retry = RetryPolicy(give_up=give_up)
    ended: list[Exception] = []

    def wait() -> None:
        try:
            retry(call)
        except RedisUnavailable as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while len(tried) < 5:
        time.sleep(0.01)
    give_up.set()
    set_at, before = time.monotonic(), len(tried)
    thread.join(5)
    assert len(ended) == 1
    assert tried[-1] - set_at < 2.0
    assert len(tried) - before <= 5


def test_a_retry_policy_waits_out_a_server_that_restarts(lone: World, own_server: RealServer) -> None:
    agent = lone.agent()
    lone.feed(2)
    waiting = threading.Event()
    patient = Broker(
        connect(own_server.url),
        "t",
        agent.actor,
        address="here",
        retry=RetryPolicy(on_wait=lambda _: waiting.set()),
    )
    own_server.kill()
    claimed: list[int] = []
    thread = threading.Thread(target=lambda: claimed.append(len(patient.settle_and_claim(0, [], 2).items)))
    thread.start()
    assert waiting.wait(5)
    own_server.start()
    thread.join(10)
    assert claimed == [2]
    assert lone.balanced()


def test_a_waiters_time_out_stands_above_its_block(redis_url: str) -> None:
    def time_out(client: redis.Redis) -> float:
        return float(client.connection_pool.connection_kwargs["socket_timeout"])

    assert time_out(connect(redis_url, blocking=True)) > time_out(connect(redis_url))
    assert connect(redis_url, blocking=True).blpop(["nobody"], 1) is None
