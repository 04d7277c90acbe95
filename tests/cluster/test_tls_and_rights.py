"""A cluster and Sentinels that accept only TLS, and users with only the rights that docs/security.md lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.cli.tools import mutitask
from tests.cluster.fleets import COUNT, FleetOn, counting_job, wait_for, wait_until_done
from tests.crashes.fleet import NAME, Fleet, wait_for_text
from tests.security.rights import PASSWORD, commands, denials
from tests.support.redis_cluster import RealCluster
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer
from tests.support.tls import Tls, make_tls

FINDER = "mt-finder"
AddressOf = Callable[[str], str]
"""The address for a role of docs/security.md."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    made = make_tls(tmp_path_factory.mktemp("certificates"))
    if made is None:
        pytest.skip("no server with TLS here: install redis-server and openssl")
    return made


@pytest.fixture
def tls_cluster(tls: Tls) -> Iterator[RealCluster]:
    """Start three masters with one replica each, with the users of docs/security.md for a cluster on each node."""
    made = RealCluster(replicas=1, tls=tls)
    try:
        made.start()
        for node in made.nodes:
            make_users(node, "+cluster|slots")
        yield made
    finally:
        made.remove()


@pytest.fixture
def tls_sentinels(tls: Tls) -> Iterator[RealSentinels]:
    """Start a master and its replica with the users of docs/security.md, and Sentinels with their user."""
    made = RealSentinels(durable=True, tls=tls)
    try:
        made.start()
        for server in made.servers:
            make_users(server)
        for sentinel in made.sentinels:
            with sentinel.client() as admin:
                admin.execute_command(
                    "ACL",
                    "SETUSER",
                    FINDER,
                    "reset",
                    "on",
                    f">{PASSWORD}",
                    "+sentinel|get-master-addr-by-name",
                )
        yield made
    finally:
        made.remove()


def make_users(node: RealServer, *more: str) -> None:
    """Create the users of docs/security.md on one node."""
    with node.client() as admin:
        for words in commands(NAME).values():
            admin.execute_command(*words, *more)
        admin.execute_command("ACL", "LOG", "RESET")


def start(fleet: Fleet, address: AddressOf) -> tuple[Any, list[Any]]:
    """Start a server and two agents, each with the rights of its role. Return when some tasks are done."""
    counting_job(fleet, COUNT)
    with fleet.at_address(address("server")):
        server = fleet.serve("--capacity", "100")
    with fleet.at_address(address("agent")):
        agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    wait_for(fleet, lambda counters: counters.done >= 200)
    return server, agents


def expect_no_entry(port: int, url: str) -> None:
    """Check that a client without a certificate gets a message, and that a client without TLS cannot connect."""
    said = mutitask("status", "--redis", url.partition("&ssl_certfile")[0], "--name", NAME)
    assert said.status == 3 and said.stderr.count("\n") == 1, said
    with pytest.raises(redis.ConnectionError), redis.Redis(port=port) as plain:
        plain.ping()


def wait_until_done_and_check(fleet: Fleet, server: Any, agents: list[Any], address: AddressOf) -> None:
    """Check that every task is done once, that a dashboard and a drain work, and that no right was missing."""
    with fleet.at_address(address("server")):
        wait_until_done(fleet, server, COUNT, "--capacity", "100")
    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents
    seen = mutitask("status", "--json", "--redis", address("dashboard"), "--name", NAME)
    assert seen.json["channels"][0]["done"] == COUNT, seen
    drained = mutitask("results", "export", "--drain", "--redis", address("server"), "--name", NAME)
    assert len(drained.lines) == COUNT, drained
    shown = "".join(program.stdout + program.stderr for program in (server, *agents))
    assert PASSWORD not in shown and "ssl_" not in shown


def test_a_cluster_by_tls_with_the_least_rights_survives_the_end_of_a_master(
    tls_cluster: RealCluster, fleet_on: FleetOn
) -> None:
    def address(role: str) -> str:
        return tls_cluster.address(f"mt-{role}:{PASSWORD}")

    assert address("agent").startswith("rediss+cluster://")
    expect_no_entry(tls_cluster.port, address("agent"))
    fleet = fleet_on(tls_cluster)
    server, agents = start(fleet, address)

    tls_cluster.owner(fleet.keys.meta).kill()
    wait_for_text(agents[0], "; trying again")

    wait_until_done_and_check(fleet, server, agents, address)
    alive = [node for node in tls_cluster.nodes if node.process.poll() is None]
    assert [refused for node in alive for refused in denials(node)] == []


def test_sentinels_by_tls_with_the_least_rights_name_the_new_master(
    tls_sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    def address(role: str) -> str:
        return tls_sentinels.address(PASSWORD, login=f"mt-{role}:{PASSWORD}", sentinel=FINDER)

    assert address("agent").startswith("rediss+sentinel://")
    expect_no_entry(tls_sentinels.port, address("agent"))
    fleet = fleet_on(tls_sentinels)
    server, agents = start(fleet, address)

    dead = tls_sentinels.master()
    dead.kill()
    wait_for_text(agents[0], "; trying again")

    wait_until_done_and_check(fleet, server, agents, address)
    assert tls_sentinels.master() is not dead
    assert denials(tls_sentinels.master()) == []
    assert [refused for sentinel in tls_sentinels.sentinels for refused in denials(sentinel)] == []
