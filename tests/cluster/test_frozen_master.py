"""A master that was frozen wakes beside its successor, and takes itself for the master for some seconds more."""

from __future__ import annotations

from tests.cluster.fleets import COUNT, FleetOn, at_work, look, see_through
from tests.crashes.fleet import Fleet
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until


def test_tasks_settled_on_a_frozen_master_that_woke_beside_its_successor_run_again(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    server, agents = at_work(fleet, 200)
    frozen = sentinels.master()
    frozen.freeze()
    wait_until(lambda: sentinels.master() is not frozen, 20, what="a failover")
    frozen.thaw()

    # Whoever had been patient enough is still connected to it, and is answered.
    at = fleet.at().agent_counters
    with frozen.client() as old:
        taken = int(old.hget(at, "done"))
        wait_until(lambda: int(old.hget(at, "done")) > taken + 50 or is_over(fleet), 20)
        demote(frozen, sentinels.master())

    see_through(fleet, server, COUNT, "--capacity", "100")
    fleet.expect_each_once([-number for number in range(COUNT)])
    assert all(agent.running for agent in agents), agents


def is_over(fleet: Fleet) -> bool:
    """Whether the successor's books say that all is done: nobody was patient enough."""
    books = look(fleet)
    return books is not None and books.done == COUNT


def demote(former: RealServer, master: RealServer) -> None:
    """What Sentinels do to a former master after some ten seconds."""
    with former.client() as client:
        pipe = client.pipeline()
        pipe.replicaof("127.0.0.1", master.port)
        pipe.execute_command("CLIENT", "KILL", "TYPE", "normal")
        pipe.execute()
