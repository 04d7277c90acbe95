"""A master that was frozen wakes beside its successor, and takes itself for the master for some seconds more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cluster.fleets import client_is_back, counting_job, see_through, wait_for
from tests.crashes.fleet import Fleet
from tests.support.redis_sentinel import RealSentinels
from tests.support.waiting import wait_until

FleetOn = Callable[[Any], Fleet]
COUNT = 1_500


def test_what_a_frozen_master_took_after_it_woke_beside_its_successor_is_run_again(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
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
