"""Networks between Redis and an agent, a server or all of them: cut, slow, or losing connections."""

from __future__ import annotations

import pytest

from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

COUNT = 1_200
TASKS = """
    import time

    def tasks():
        yield from range({count})

    def task_function(task):
        time.sleep(0.001)
        return task
    """


def cut_with_claims(fleet: Fleet, proxy: Proxy, agent: Program) -> str:
    """Cut the agent off while it has claimed tasks. Return its actor."""

    def caught() -> bool:
        proxy.cut()
        if fleet.held_by(agent) >= 2:
            return True
        proxy.restore()
        return False

    fleet.wait_for(lambda counters: counters.done >= 200)
    wait_until(caught, 20, what="the agent has claimed tasks")
    return fleet.actor_of(agent)


def crashes_of(fleet: Fleet, expected: list) -> set[int]:
    results = fleet.expect_each_once(expected)
    assert {recorded.attempt for recorded in results} == {0}
    return {recorded.crashes for recorded in results}


@pytest.mark.parametrize("ending", ["the network comes back", "the connections are gone"])
def test_an_agent_cut_off_for_longer_than_the_lease_is_recovered_elsewhere_and_refused_there(
    fleet: Fleet, proxy: Proxy, ending: str
) -> None:
    fleet.job(TASKS.format(count=COUNT))
    server = fleet.serve("--lease", "2", "--capacity", "400")
    with fleet.through(proxy):
        far = fleet.agent("--device", "0")
    before = cut_with_claims(fleet, proxy, far)
    near = fleet.agent("--device", "1")
    wait_until(lambda: not fleet.client.exists(fleet.at().claims(before)), what="its tasks are recovered")
    fleet.wait_for(lambda counters: counters.done >= COUNT // 2)

    # What it sent into the cut arrives now, long after the agent was fenced, or never.
    if ending == "the connections are gone":
        proxy.drop_all()
    proxy.restore()

    assert crashes_of(fleet, list(range(COUNT))) == {0, 1}
    wait_for_text(far, "Device0 was fenced: its lease expired without a heartbeat")
    wait_for_text(far, " serves ", times=2)
    assert "Redis, or the network to it, did not answer this agent for" in far.stderr
    assert "the GIL" not in far.stderr
    assert fleet.actor_of(far) != before
    assert all(program.running for program in (server, far, near))


def test_a_server_cut_off_for_longer_than_its_lease_continues_and_allots_each_item_once(
    fleet: Fleet, proxy: Proxy
) -> None:
    fleet.job(TASKS.format(count=COUNT))
    with fleet.through(proxy):
        server = fleet.serve("--lease", "2", "--capacity", "100")
    agent = fleet.agent("--device", "0")
    fleet.wait_for(lambda counters: counters.done >= 200)

    proxy.cut()
    wait_until(lambda: fleet.snapshot().server is None, 20, what="its lease has ended")
    idle = fleet.wait_for(lambda counters: counters.open == 0)
    assert idle.allotted < COUNT, "nothing is allotted meanwhile"
    proxy.restore()

    assert crashes_of(fleet, list(range(COUNT))) == {0}
    assert server.running
    assert agent.running


def test_all_cut_off_from_redis_at_once_lose_nothing_and_no_agent_is_fenced(
    fleet: Fleet, proxy: Proxy
) -> None:
    fleet.job(TASKS.format(count=COUNT))
    with fleet.through(proxy):
        programs = [
            fleet.serve("--lease", "2", "--capacity", "200"),
            *(fleet.agent("--device", str(device)) for device in range(2)),
        ]
    fleet.wait_for(lambda counters: counters.done >= 200)
    ends = max(fleet.client.zrange(fleet.keys.leases, 0, -1, withscores=True), key=lambda pair: pair[1])[1]

    proxy.cut()
    seconds = lambda: fleet.client.time()[0]  # noqa: E731
    wait_until(lambda: seconds() * 1000 > ends + 1_500, what="all leases have ended")
    proxy.restore()

    assert crashes_of(fleet, list(range(COUNT))) == {0}
    assert all(program.running for program in programs)
    assert not any("was fenced" in program.stderr for program in programs)


def test_a_slow_network_that_loses_connections_costs_time_and_nothing_else(
    fleet: Fleet, proxy: Proxy
) -> None:
    """With each connection a call is lost: before Redis gets the request, or before the agent gets the reply."""
    fleet.job(TASKS.format(count=2 * COUNT))
    with fleet.through(proxy):
        programs = [
            fleet.serve("--lease", "5", "--capacity", "100"),
            *(fleet.agent("--device", str(device)) for device in range(2)),
        ]
    proxy.latency, proxy.loss = 0.01, 0.3

    wait_until(lambda: proxy.lost >= 8, 20, what="eight calls are lost")
    proxy.loss = 0.02

    assert crashes_of(fleet, list(range(2 * COUNT))) == {0}
    assert all(program.running for program in programs)


def test_connections_killed_all_the_time_in_mid_script_lose_and_double_nothing(fleet: Fleet) -> None:
    fleet.job(TASKS.format(count=COUNT))
    server = fleet.serve("--lease", "5", "--capacity", "100")
    agents = [fleet.agent("--device", str(device)) for device in range(2)]
    kills = 0

    def killed_until_done() -> bool:
        nonlocal kills
        kills += fleet.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return fleet.client.hget(fleet.at().agent_counters, "done") == str(COUNT).encode()

    wait_until(killed_until_done, 40, every=0.1, what="all is done")

    assert crashes_of(fleet, list(range(COUNT))) == {0}
    assert kills >= 12
    assert all(program.running for program in (server, *agents))
