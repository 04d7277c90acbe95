"""A server and agents behind real Sentinels: wrong addresses, and a master that dies under load."""

from __future__ import annotations

from tests.cli.tools import mutitask
from tests.cluster.fleets import COUNT, FleetOn, start_work, wait_until_done
from tests.crashes.fleet import NAME, wait_for_text
from tests.support.redis_sentinel import RealSentinels
from tests.support.redis_server import free_port


def test_work_continues_at_the_new_master_after_the_old_one_was_killed_under_load(
    sentinels: RealSentinels, fleet_on: FleetOn
) -> None:
    fleet = fleet_on(sentinels)
    server, agents = start_work(fleet, 300)
    dead = sentinels.master()
    dead.kill()
    wait_for_text(agents[0], "; trying again")

    server = wait_until_done(fleet, server, COUNT, "--capacity", "100")

    fleet.expect_each_once([-number for number in range(COUNT)])
    assert sentinels.master() is not dead
    assert server.running and all(agent.running for agent in agents), (server, agents)
    assert all("answers again" in agent.stderr for agent in agents), agents
    shown = "".join(program.stdout + program.stderr for program in (server, *agents))
    assert "redis+sentinel://127.0.0.1:" in shown
    assert sentinels.password not in shown and sentinels.sentinel_password not in shown


def test_a_wrong_address_is_reported_in_one_sentence(sentinels: RealSentinels) -> None:
    right, (first, *_) = sentinels.sentinel_password, sentinels.sentinels
    nobody = f"redis+sentinel://127.0.0.1:{free_port()}/ours?sentinel_password={right}"
    cases = {
        sentinels.address("wrong"): "refuse the password; pass their password as sentinel_password=",
        sentinels.address(
            right, "nosuch"
        ): "know no service 'nosuch'; use the name under which they watch it",
        sentinels.address(right).replace(f":{sentinels.password}@", ":x@"): "refuses the password",
        f"redis+sentinel://:{sentinels.password}@127.0.0.1:{sentinels.master().port}/ours": "the Sentinels at",
        nobody: "answers with a master: Connection refused",
        f"redis+sentinel://127.0.0.1:{first.port}": "write the name of the service after the Sentinels",
        f"redis+sentinel://127.0.0.1:{first.port}/ours/x": "the database must be a number",
    }
    for url, says in cases.items():
        said = mutitask("status", "--redis", url, "--name", NAME)
        assert (said.status, said.stderr.count("\n")) == (3, 1), said
        assert says in said.stderr, said.stderr
        assert right not in said.stderr and sentinels.password not in said.stderr
