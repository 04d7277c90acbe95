"""Server and agents behind real Sentinels: the master dies under load, with and without lost writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.tools import mutitask
from tests.cluster.fleets import client_is_back, counting_job, runs, see_through, wait_for
from tests.crashes.fleet import NAME, Fleet, wait_for_text
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer, free_port
from tests.support.waiting import wait_until

FleetOn = Callable[[Any], Fleet]
COUNT = 1_500


def test_a_master_killed_under_load_is_waited_for_and_work_goes_on_at_the_new_one(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    wait_for(fleet, lambda books: books.done >= 300)
    dead = sentinels.master()
    dead.kill()
    wait_for_text(agents[0], "; trying again")

    server = see_through(fleet, server, COUNT, "--capacity", "100")

    fleet.expect_each_once([-number for number in range(COUNT)])
    assert sentinels.master() is not dead
    assert server.running and all(agent.running for agent in agents), (server, agents)
    assert all("answers again" in agent.stderr for agent in agents), agents
    shown = "".join(program.stdout + program.stderr for program in (server, *agents))
    assert "redis+sentinel://127.0.0.1:" in shown
    assert sentinels.password not in shown and sentinels.sentinel_password not in shown


def stop_replication(sentinels: RealSentinels) -> RealServer:
    """From now on nothing reaches the replica; returns it."""
    master = sentinels.master()
    replica = next(server for server in sentinels.servers if server is not master)
    with replica.client() as client:
        client.config_set("masterauth", "wrong")
    with master.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    return replica


def test_writes_lost_with_a_master_are_told_and_resumed_and_nothing_is_recorded_twice(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    wait_for(fleet, lambda books: books.done >= 200)
    stop_replication(sentinels)
    kept = fleet.books().done
    lost = wait_for(fleet, lambda books: books.done >= kept + 200).done - kept
    sentinels.master().kill()

    assert server.wait() == 1
    assert "it lost its last writes; start the server again with --resume" in server.stderr
    see_through(fleet, server, COUNT)

    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents
    again = len(runs(fleet.folder)) - COUNT
    assert again >= lost, "what was done and lost was run again"


def test_a_master_without_its_replica_takes_no_writes_where_it_was_told_so(fleet_on: FleetOn) -> None:
    cautious = RealSentinels(settings={"min-replicas-to-write": 1, "min-replicas-max-lag": 1})
    try:
        cautious.start()
        fleet = fleet_on(cautious)
        counting_job(fleet, 600)
        server = fleet.serve("--capacity", "100")
        agent = fleet.agent("--device", "0")
        wait_for(fleet, lambda books: books.done >= 100)
        replica = stop_replication(cautious)
        wait_for_text(agent, "is not ready")
        stood = fleet.books().done
        with replica.client() as client:
            client.config_set("masterauth", cautious.password)
        wait_for_text(agent, "answers again")

        fleet.expect_each_once([-number for number in range(600)])

        assert stood < 600
        assert server.running and agent.running
    finally:
        cautious.remove()


def test_what_is_wrong_with_the_address_is_said_in_one_sentence(sentinels: RealSentinels) -> None:
    right, (first, *_) = sentinels.sentinel_password, sentinels.sentinels
    nobody = f"redis+sentinel://127.0.0.1:{free_port()}/ours?sentinel_password={right}"
    cases = {
        sentinels.address("wrong"): "refuse the password; pass theirs as sentinel_password=",
        sentinels.address(right, "nosuch"): "know no service 'nosuch'; write the name that they watch it by",
        sentinels.address(right).replace(f":{sentinels.password}@", ":x@"): "refuses the password",
        f"redis+sentinel://:{sentinels.password}@127.0.0.1:{sentinels.port}/ours": "the Sentinels at",
        nobody: "that answers knows the master: Connection refused",
        f"redis+sentinel://127.0.0.1:{first.port}": "comes the name of the service",
        f"redis+sentinel://127.0.0.1:{first.port}/ours/x": "a database is a number",
    }
    for url, says in cases.items():
        said = mutitask("status", "--redis", url, "--name", NAME)
        assert (said.status, said.stderr.count("\n")) == (3, 1), said
        assert says in said.stderr, said.stderr
        assert right not in said.stderr and sentinels.password not in said.stderr


@pytest.fixture
def fleet(sentinels: RealSentinels, fleet_on: FleetOn) -> Fleet:
    """A namespace there."""
    return fleet_on(sentinels)


def test_what_a_frozen_master_took_after_it_woke_beside_its_successor_is_run_again(fleet: Fleet) -> None:
    sentinels: Any = fleet.redis
    counting_job(fleet, COUNT)
    server = fleet.serve("--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    wait_for(fleet, lambda books: books.done >= 200)
    frozen = sentinels.master()
    frozen.freeze()
    wait_until(lambda: sentinels.master() is not frozen, 20, what="a failover")
    wait_for(fleet, lambda books: books.done >= 400)
    frozen.thaw()

    see_through(fleet, server, COUNT, "--capacity", "100")

    # Until then it still takes itself for the master, and answers a connection that was idle all the time.
    wait_until(lambda: sentinels.in_step(frozen), 20, what="the old master follows the new one")
    wait_until(lambda: client_is_back(fleet), what="the test's own client found the new master")
    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents
