"""A server and agents on a real cluster: a namespace on one shard, a slot that moves, a master that dies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.tools import mutitask
from tests.cluster.fleets import COUNT, FleetOn, counting_job, start_work, wait_for, wait_until_done
from tests.crashes.fleet import NAME, Fleet, wait_for_text
from tests.support.redis_cluster import RealCluster
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import RedisRefused
from worker_agent.protocol.keys import Keys

META = Keys(NAME).meta


@pytest.fixture
def fleet(cluster: RealCluster, fleet_on: FleetOn) -> Fleet:
    """Return a fleet on the emptied cluster."""
    with cluster.client() as admin:
        admin.flushall()
    return fleet_on(cluster)


def test_a_namespace_lives_on_one_shard_and_every_command_finds_it(fleet: Fleet) -> None:
    cluster: Any = fleet.redis
    counting_job(fleet, 200)
    server = fleet.serve("--until-done")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    answers = fleet.ctl("detect_all")
    assert "Device0" in answers and "Device1" in answers
    fleet.expect_each_once([-number for number in range(200)])
    assert server.wait() == 0, server

    counts = {}
    for node in cluster.masters:
        with node.client() as client:
            counts[node.port] = client.dbsize()
    assert sorted(counts.values())[:2] == [0, 0] and counts[cluster.owner(META).port] > 10
    at = ["--redis", cluster.url, "--name", NAME]
    assert mutitask("status", "--json", *at).json["channels"][0]["done"] == 200
    assert len(mutitask("results", "export", "--drain", *at).lines) == 200
    assert fleet.counters().results == 0
    shown = "".join(p.stdout + p.stderr for p in (server, *agents)) + mutitask("status", *at).stdout
    assert "redis+cluster://127.0.0.1:" in shown and cluster.password not in shown


def test_namespaces_spread_over_the_shards(cluster: RealCluster) -> None:
    owners = {cluster.owner(Keys(f"n{number}").meta).port for number in range(30)}
    assert owners == {node.port for node in cluster.masters}


def test_the_address_of_one_node_is_enough(cluster: RealCluster) -> None:
    owner = cluster.owner(META)
    other = next(node for node in cluster.masters if node is not owner)
    url = f"redis+cluster://:{cluster.password}@127.0.0.1:{other.port}"
    with connect(url) as client, connect(url, blocking=True) as waiter:
        client.execute_command("LPUSH", f"{{mt:{NAME}}}:x", "1")
        assert waiter.execute_command("BLPOP", f"{{mt:{NAME}}}:x", "1") == [f"{{mt:{NAME}}}:x".encode(), b"1"]


def test_a_cluster_addressed_as_one_redis_is_refused_with_the_right_address(cluster: RealCluster) -> None:
    owner = cluster.owner(META)
    other = next(node for node in cluster.masters if node is not owner)
    said = mutitask("status", "--redis", other.url, "--name", NAME)
    assert said.status == 3
    assert f"use the address redis+cluster://127.0.0.1:{other.port}" in said.stderr
    assert said.stderr.count("\n") == 1 and cluster.password not in said.stderr


def test_keys_of_several_slots_are_refused(cluster: RealCluster) -> None:
    broker = Broker(connect(cluster.url), NAME, Actor.operator(), address="here")
    with pytest.raises(RedisRefused, match="treats the keys of one namespace as keys of several slots"):
        broker.query("MGET", "a", "b")


def move_slot_by_keys(cluster: RealCluster, source: RealServer, target: RealServer) -> int:
    """Move the namespace's slot key by key, as `valkey-cli --cluster reshard` does. Return how many keys moved."""
    moved = 0
    with source.client() as here, target.client() as there:
        slot = here.execute_command("CLUSTER", "KEYSLOT", META)
        source_id, target_id = (node.execute_command("CLUSTER", "MYID") for node in (here, there))
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            here.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", cluster.password, "KEYS", *keys
            )
            moved += len(keys)
        for node in (there, here):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    return moved


def test_a_slot_that_moves_under_load_loses_nothing_and_doubles_nothing(fleet: Fleet) -> None:
    cluster: Any = fleet.redis
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    for part in (1, 2):
        wait_for(fleet, lambda counters, part=part: counters.done >= part * 300)
        owner = cluster.owner(META)
        target = next(node for node in cluster.masters if node is not owner)
        assert move_slot_by_keys(cluster, owner, target) > 10
        wait_until(lambda target=target: cluster.owner(META) is target)

    results = fleet.expect_each_once([-number for number in range(COUNT)])

    assert {recorded.attempt for recorded in results} == {0}
    assert all(program.running for program in (server, *agents)), (server, agents)


def test_a_master_killed_under_load_is_replaced_by_its_replica_and_work_continues(fleet: Fleet) -> None:
    cluster: Any = fleet.redis
    server, agents = start_work(fleet, 300)
    cluster.owner(META).kill()
    wait_for_text(agents[0], "; trying again")

    wait_until_done(fleet, server, COUNT, "--capacity", "100")

    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents
    assert all("answers again" in agent.stderr for agent in agents), agents
