"""A client sends lost calls and forgotten scripts again, and blocks no longer than its time-out."""

from __future__ import annotations

import pytest
import redis

from tests.protocol.connection.sentence import sentence
from tests.protocol.tap import SCRIPTS
from tests.protocol.world import ById, World, done, id_of
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.retry import NO_RETRIES, RetryPolicy
from worker_agent.protocol.errors import RedisUnavailable
from worker_agent.protocol.scripts import script


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
    """A real client whose connection is killed after the server ran the command and before the answer is read."""

    def __init__(self, client: redis.Redis, admin: redis.Redis) -> None:
        self.client = client
        self.admin = admin
        self.losing = False
        for name in SCRIPTS:  # Without them, the lost answer would be NOSCRIPT.
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


def test_an_answer_lost_with_its_connection_is_requested_again(world: World, redis_url: str) -> None:
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


def test_a_caller_without_retries_gets_the_error_and_may_continue(world: World, redis_url: str) -> None:
    wire_ = LosesAnswers(connect(redis_url), world.client)
    ctl = Broker(wire_, "t", world.operator().actor, address="here", retry=NO_RETRIES)
    ctl.actor_on(0)  # On a cluster it finds the node.
    wire_.losing = True
    with pytest.raises(RedisUnavailable) as away:
        ctl.add_devices(1)
    sentence(away.value)
    assert ctl.add_devices(1) == 4


def test_the_time_out_of_a_blocking_client_is_longer_than_its_block(redis_url: str) -> None:
    def time_out(client: redis.Redis) -> float:
        return float(client.connection_pool.connection_kwargs["socket_timeout"])

    assert time_out(connect(redis_url, blocking=True)) > time_out(connect(redis_url))
    assert connect(redis_url, blocking=True).blpop(["nobody"], 1) is None
