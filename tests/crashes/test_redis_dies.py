"""Redis is killed and started again under a server and its agents."""

from __future__ import annotations

COUNT = 1_200


def test_redis_killed_and_started_again_loses_nothing_and_ends_nobody(own_fleet):
    fleet = own_fleet
    fleet.job(
        f"""
        import time

        def tasks():
            yield from range({COUNT})

        def task_function(task):
            time.sleep(0.001)
            return -task
        """
    )
    server = fleet.serve("--lease", "2", "--capacity", "40")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    for part in (1, 2):
        fleet.wait_for(lambda books, part=part: books.done >= part * 250)
        fleet.redis.kill()
        fleet.redis.start()
        fleet.every_write_on_disk()

    results = fleet.expect_each_once([-number for number in range(COUNT)])

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert all(program.running for program in (server, *agents)), (server, agents)
    noticed = [program for program in (server, *agents) if "; trying again" in program.stderr]
    assert noticed, "nobody noticed"
    assert all("answers again" in program.stderr for program in noticed), noticed


def test_redis_frozen_for_longer_than_the_leases_costs_nobody_his_tasks(own_fleet):
    fleet = own_fleet
    fleet.job(
        """
        import time

        def tasks():
            yield from range(300)

        def task_function(task):
            time.sleep(0.005)
            return task
        """
    )
    server = fleet.serve("--lease", "2", "--capacity", "300")
    agent = fleet.agent("--device", "0")
    fleet.wait_for(lambda books: books.done >= 50)
    fleet.redis.freeze()
    fleet.wait_for_stall(agent)
    fleet.redis.thaw()

    results = fleet.expect_each_once(list(range(300)))

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert server.running
    assert agent.running
