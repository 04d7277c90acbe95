"""Redis away for about as long as the shortest lease: live agents keep their tasks."""

from __future__ import annotations

import time

from tests.chaos.network import expect_no_crash, expect_running
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

LEASE_S = 2
LONG = """
        plain = task_function

        def task_function(task):
            if task % 20 == 0 and not Path(FOLDER, "enough").exists():
                time.sleep(2.5)
            return plain(task)
        """
"""A job in which some tasks run longer than the lease, so that only heartbeats renew it."""


def go_away(fleet: Fleet, seconds: float, *, killed: bool) -> None:
    """Kill Redis or freeze it, and bring it back after `seconds`."""
    if killed:
        fleet.redis.kill()
        time.sleep(seconds)
        fleet.redis.start()
    else:
        fleet.redis.freeze()
        time.sleep(seconds)
        fleet.redis.thaw()


def wait_for_reports(fleet: Fleet, actors: int) -> None:
    """Wait until all actors have renewed their lease since now. A live actor does so within a second."""
    seconds, microseconds = fleet.client.time()
    fresh = seconds * 1000 + microseconds // 1000 + LEASE_S * 1000
    leases = (fleet.keys.leases, fleet.keys.server_lease)
    wait_until(
        lambda: sum(fleet.client.zcount(key, fresh, "+inf") for key in leases) >= actors,
        what="all actors have renewed their lease",
    )


@scenario("redis-away-shortly", "Redis killed or frozen for 0.8 to 3 s, with the shortest lease, 2 s")
def redis_away_shortly(context: Context) -> Row:
    """Choose random moments between two heartbeats, so that some absences are too short for a sweep to notice.

    All actors renew their lease between two absences. Without that, no lease could show which actors live.
    """
    times = context.size(2, 40)
    fleet = context.fleet(on=context.redis(durable=True))
    fleet.job(until_enough() + LONG)
    programs = [fleet.serve("--lease", str(LEASE_S), "--capacity", "200")]
    programs += [fleet.agent("--device", str(device), "--concurrency", "2") for device in range(3)]
    with Watch(fleet) as watch:
        for number in range(times):
            wait_for_reports(fleet, len(programs))
            before = fleet.counters()
            fleet.wait_for(
                lambda counters, before=before: counters.done > before.done + 20 and counters.claimed > 0
            )
            time.sleep(context.random.uniform(0, 1))
            seconds = context.random.uniform(0.8, context.random.choice((1.6, 3.0)))
            go_away(fleet, seconds, killed=number % 3 < 2)
        row = judge(context, fleet, watch, enough(fleet), times=times)
    expect_running(row, programs)
    expect_no_crash(row, fleet)
    lost = [
        program
        for program in programs
        if "was fenced" in program.stderr or "longer than its" in program.stderr
    ]
    row.expect(not lost, f"a lease expired: {lost}")
    row.remarks.append("no lease expired; no task ran twice")
    return row
