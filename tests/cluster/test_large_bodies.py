"""Large bodies on a real cluster: they spread over the masters, follow their slots, and outlive a master."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot

from tests.cli.tools import mutitask
from tests.cluster.fleets import FleetOn, wait_for
from tests.crashes.fleet import NAME, Fleet, wait_for_text
from tests.support.redis_cluster import RealCluster
from tests.support.redis_server import RealServer
from worker_agent.protocol.bodies import Bodies, key_prefix
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.keys import Keys

META = Keys(NAME).meta
COUNT = 400
SIZE = 10_000


@pytest.fixture
def fleet(cluster: RealCluster, fleet_on: FleetOn) -> Fleet:
    """Return a fleet on the emptied cluster."""
    with cluster.client() as admin:
        admin.flushall()
    return fleet_on(cluster)


def large_job(fleet: Fleet, count: int, seconds: float = 0.0) -> None:
    """Write a job whose tasks and results are large."""
    fleet.job(
        f"""
        import time

        def tasks():
            for number in range({count}):
                yield [number, "x" * {SIZE}]

        def task_function(task):
            time.sleep({seconds})
            return [-task[0], task[1]]
        """
    )


def bodies_on(node: RealServer) -> int:
    with node.client() as client:
        return len(client.keys(key_prefix(NAME) + b"*"))


def test_large_bodies_spread_over_the_masters_and_go_with_their_tasks_and_results(fleet: Fleet) -> None:
    cluster: Any = fleet.redis
    large_job(fleet, 200)
    server = fleet.serve("--until-done")
    agent = fleet.agent("--device", "0")
    assert server.wait() == 0, server
    on_each = [bodies_on(node) for node in cluster.masters]
    assert sum(on_each) == 200 and min(on_each) > 30, on_each

    drained = mutitask("results", "export", "--drain", "--redis", cluster.url, "--name", NAME)

    assert sorted(line["result"][0] for line in drained.lines) == sorted(-n for n in range(200))
    assert [bodies_on(node) for node in cluster.masters] == [0, 0, 0]
    assert agent.running


def test_without_the_right_to_read_the_slots_the_nodes_tell_where_bodies_are(cluster: RealCluster) -> None:
    with cluster.client() as admin:
        admin.execute_command(
            "ACL",
            "SETUSER",
            "narrow",
            "reset",
            "on",
            ">secret",
            "+mget",
            "+mset",
            "+unlink",
            "~mt:moving:body:*",
        )
        try:
            bodies = Bodies(connect(cluster.address("narrow:secret")), "moving", "here")
            stored = {
                key_prefix("moving") + b"0:run12345%012d:x" % number: b"%d" % number for number in range(60)
            }
            assert not bodies.store(stored)
            found: dict[bytes, bytes] = {}
            bodies.fetch({key: len(body) for key, body in stored.items()}, found)
            assert found == stored
            bodies.unlink(list(stored))
            assert not admin.keys(key_prefix("moving") + b"*")
        finally:
            admin.execute_command("ACL", "DELUSER", "narrow")


def test_a_master_of_bodies_alone_killed_under_load_is_replaced_and_work_continues(fleet: Fleet) -> None:
    cluster: Any = fleet.redis
    large_job(fleet, COUNT, 0.003)
    server = fleet.serve("--capacity", "60")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    wait_for(fleet, lambda counters: counters.done >= 50)
    other = next(node for node in cluster.masters if node is not cluster.owner(META))
    other.kill()
    wait_for_text(agents[0], "; trying again")

    counters = wait_for(fleet, lambda c: c.exhausted and c.allotted == COUNT and c.open == 0, 40)

    # The bodies that the master had acknowledged and not yet passed on to its replica are lost: each is told.
    told = {failed.error for failed in fleet.failed()}
    assert all("its body is missing in Redis" in error for error in told), told
    assert counters.done + counters.failed == COUNT and counters.failed <= 20
    assert all(program.running for program in (server, *agents)), (server, agents)
    assert all("answers again" in agent.stderr for agent in agents), agents


@pytest.fixture
def moved(cluster: RealCluster) -> Iterator[tuple[RealServer, RealServer, bytes]]:
    """Return the owner of a body's slot, another master, and the body's key."""
    key = key_prefix("moving") + b"0:run12345000000000001:x"
    source = cluster.owner(key.decode())
    target = next(node for node in cluster.masters if node is not source and node.process.poll() is None)
    yield source, target, key


def test_bodies_are_found_while_their_slot_moves_and_after(
    cluster: RealCluster, moved: tuple[RealServer, RealServer, bytes]
) -> None:
    source, target, key = moved
    slot = key_slot(key)
    bodies = Bodies(connect(cluster.url), "moving", "here")
    found: dict[bytes, bytes] = {}
    assert not bodies.store({key: b"body"})
    with source.client() as here, target.client() as there:
        source_id, target_id = (node.execute_command("CLUSTER", "MYID") for node in (here, there))
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        bodies.fetch({key: 4}, found)
        assert found.pop(key) == b"body"
        here.execute_command(
            "MIGRATE", "127.0.0.1", target.port, key, 0, 5000, "AUTH", cluster.password
        )  # fmt: skip
        bodies.fetch({key: 4}, found)
        assert found.pop(key) == b"body"
        assert not bodies.store({key: b"next"})
        for node in (there, here):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        bodies.fetch({key: 4}, found)
        assert found.pop(key) == b"next"
        assert bodies.missing([key]) == set()
        bodies.unlink([key])
        assert bodies.missing([key]) == {key}
