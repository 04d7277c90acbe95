"""Writes that only a master had are lost with it: server and agents notice, and a setting can prevent it."""

from __future__ import annotations

from tests.cluster.fleets import COUNT, FleetOn, counting_job, runs, start_work, wait_for, wait_until_done
from tests.crashes.fleet import wait_for_text
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer


def stop_replication(sentinels: RealSentinels) -> RealServer:
    """Stop replication. Return the replica."""
    master = sentinels.master()
    replica = next(server for server in sentinels.servers if server is not master)
    with replica.client() as client:
        client.config_set("masterauth", "wrong")
    with master.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    return replica


def test_writes_lost_with_a_master_are_reported_and_resumed_and_nothing_is_recorded_twice(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    server, agents = start_work(fleet, 200)
    stop_replication(sentinels)
    kept = fleet.counters().done
    lost = wait_for(fleet, lambda counters: counters.done >= kept + 200).done - kept
    sentinels.master().kill()

    assert server.wait() == 1
    assert "it lost its last writes; start the server again with --resume" in server.stderr
    wait_until_done(fleet, server, COUNT)

    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents
    again = len(runs(fleet.folder)) - COUNT
    assert again >= lost, "tasks whose results were lost ran again"


def test_a_master_without_its_replica_takes_no_writes_if_configured_so(fleet_on: FleetOn) -> None:
    cautious = RealSentinels(settings={"min-replicas-to-write": 1, "min-replicas-max-lag": 1})
    try:
        cautious.start()
        fleet = fleet_on(cautious)
        counting_job(fleet, 600)
        server = fleet.serve("--capacity", "100")
        agent = fleet.agent("--device", "0")
        wait_for(fleet, lambda counters: counters.done >= 100)
        replica = stop_replication(cautious)
        wait_for_text(agent, "is not ready")
        stood = fleet.counters().done
        with replica.client() as client:
            client.config_set("masterauth", cautious.password)
        wait_for_text(agent, "answers again")

        fleet.expect_each_once([-number for number in range(600)])

        assert stood < 600
        assert server.running and agent.running
    finally:
        cautious.remove()
