"""Redis is killed and restarted under a running server and its agents."""

from __future__ import annotations

from tests.crashes.fleet import Fleet

COUNT = 1_200


def test_redis_killed_and_restarted_loses_nothing_and_ends_no_process(own_fleet):
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
        fleet.wait_for(lambda counters, part=part: counters.done >= part * 250)
        fleet.redis.kill()
        fleet.redis.start()
        fleet.every_write_on_disk()

    results = fleet.expect_each_once([-number for number in range(COUNT)])

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert all(program.running for program in (server, *agents)), (server, agents)
    noticed = [program for program in (server, *agents) if "; trying again" in program.stderr]
    assert noticed, "no process noticed"
    assert all("answers again" in program.stderr for program in noticed), noticed


def test_redis_frozen_for_longer_than_the_leases_takes_no_tasks_from_agents(own_fleet):
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
    fleet.wait_for(lambda counters: counters.done >= 50)
    fleet.redis.freeze()
    fleet.wait_for_stall(agent)
    fleet.redis.thaw()

    results = fleet.expect_each_once(list(range(300)))

    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    assert server.running
    assert agent.running


def lose_writes_since(fleet: Fleet, kept: int) -> None:
    """Simulate a power cut: only the first `kept` bytes of Redis's file are on the disk."""
    fleet.redis.kill()
    fleet.redis.lose_writes(kept)
    fleet.redis.start()


def test_an_agent_whose_claims_redis_lost_claims_again_and_leaves_nothing_claimed(own_fleet):
    fleet = own_fleet
    fleet.job(
        """
        import time

        def tasks():
            yield from range(600)

        def task_function(task):
            time.sleep(0.002)
            return task
        """
    )
    server = fleet.serve("--lease", "600", "--capacity", "600")
    fleet.wait_for(lambda counters: counters.exhausted)
    agent = fleet.agent("--device", "0")
    fleet.freeze_with_claims(agent)
    kept, done = fleet.redis.written(), fleet.counters().done
    agent.thaw()
    fleet.wait_for(lambda counters: counters.done >= done + 150)

    lose_writes_since(fleet, kept)

    results = fleet.expect_each_once(list(range(600)))
    assert "lost its last writes; " in agent.stderr
    assert {recorded.crashes for recorded in results} == {0, 1}
    assert agent.running
    assert server.running


def test_a_server_with_nothing_left_to_feed_learns_that_redis_lost_writes(own_fleet):
    fleet = own_fleet
    fleet.job(
        """
        from pathlib import Path
        import time

        def tasks():
            yield from range(300)
            while not Path(FOLDER, "go").exists():
                time.sleep(0.01)
            yield from range(300, 600)

        def task_function(task):
            return task
        """
    )
    server = fleet.serve("--capacity", "600")
    fleet.wait_for(lambda counters: counters.allotted == 300)
    kept = fleet.redis.written()
    (fleet.folder / "go").touch()
    fleet.wait_for(lambda counters: counters.exhausted)

    lose_writes_since(fleet, kept)

    assert server.wait() == 1, server
    assert (
        "TaskChannel0 was fed up to item 600, and Redis knows of 300: it lost its last writes"
        in server.stderr
    )
    fleet.serve("--resume")
    fleet.agent("--device", "0")
    fleet.expect_each_once(list(range(600)))
