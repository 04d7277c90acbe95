"""The dedicated connection of a cluster: it stays with the namespace's node, also when that changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.test_cluster import META, move_slot_by_keys
from tests.crashes.fleet import NAME
from tests.support.redis_cluster import RealCluster
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import ClusterConnection, dedicate
from worker_agent.protocol.connection.retry import RetryPolicy


@pytest.fixture
def broker(cluster: RealCluster) -> Broker:
    """Return a broker with a dedicated connection to the emptied cluster."""
    with cluster.client() as admin:
        admin.flushall()
    client = dedicate(connect(cluster.url))
    assert isinstance(client, ClusterConnection)
    return Broker(client, NAME, Actor.operator(), address="here", retry=RetryPolicy(max_tries=60))


def connections(node: RealServer) -> int:
    """Return how many connections the node has, except this one and those of its cluster."""
    with node.client() as client:
        return sum(each["flags"] == "N" for each in client.client_list()) - 1


def count(broker: Broker) -> int:
    """Call a script twice and a plain command. Return what they have counted so far."""
    for _ in range(2):
        broker.append_event("info", "test", "here")
    return int(broker.query("LLEN", broker.keys.events))


def test_all_calls_share_one_connection_to_the_owner_of_the_namespace(
    cluster: RealCluster, broker: Broker
) -> None:
    before = {node.port: connections(node) for node in cluster.masters}
    assert [count(broker) for _ in range(5)] == [2, 4, 6, 8, 10]

    more = {node.port: connections(node) - before[node.port] for node in cluster.masters}
    assert more.pop(cluster.owner(META).port) == 1
    assert sum(more.values()) <= 1, "the node that was asked first"


def test_it_follows_the_slot_that_moves(cluster: RealCluster, broker: Broker) -> None:
    assert count(broker) == 2
    owner = cluster.owner(META)
    target = next(node for node in cluster.masters if node is not owner)
    move_slot_by_keys(cluster, owner, target)
    wait_until(lambda: cluster.owner(META) is target)

    assert [count(broker) for _ in range(3)] == [4, 6, 8]
    client: Any = broker.client
    assert client.plain.node[1] == target.port


def test_it_follows_a_failover(cluster: RealCluster, broker: Broker) -> None:
    assert count(broker) == 2
    owner = cluster.owner(META)
    owner.kill()
    try:
        assert count(broker) >= 2, "the replica may lack what it had not received"
        assert cluster.owner(META) is not owner
    finally:
        owner.start()
