"""A frozen master wakes beside its successor and acts as a master for some more seconds."""

from __future__ import annotations

from tests.cluster.fleets import COUNT, FleetOn, read_counters, start_work, wait_until_done
from tests.crashes.fleet import Fleet
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until


def test_tasks_settled_on_a_frozen_master_that_woke_beside_its_successor_run_again(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    server, agents = start_work(fleet, 200)
    frozen = sentinels.master()
    frozen.freeze()
    wait_until(lambda: sentinels.master() is not frozen, 20, what="a failover")
    frozen.thaw()

    # Programs that did not time out are still connected to the old master and get answers.
    at = fleet.at().agent_counters
    with frozen.client() as old:
        taken = int(old.hget(at, "done"))
        wait_until(lambda: int(old.hget(at, "done")) > taken + 50 or is_over(fleet), 20)
        demote(frozen, sentinels.master())

    wait_until_done(fleet, server, COUNT, "--capacity", "100")
    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents


def is_over(fleet: Fleet) -> bool:
    """Whether the successor's counters say that all is done: nobody was patient enough."""
    counters = read_counters(fleet)
    return counters is not None and counters.done == COUNT


def demote(former: RealServer, master: RealServer) -> None:
    """Make a former master a replica, as Sentinels do after about ten seconds."""
    with former.client() as client:
        pipe = client.pipeline()
        pipe.replicaof("127.0.0.1", master.port)
        pipe.execute_command("CLIENT", "KILL", "TYPE", "normal")
        pipe.execute()
