"""Agents killed while a rate holds tasks back, and while every task fails and runs again."""

from __future__ import annotations

from mutitask_tui.server.reader import Reader, Result
from tests.chaos.agents import done, wait_for_done
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge
from tests.crashes.fleet import NAME, Fleet
from tests.support.programs import Program

AGENTS = 3
RATE = 200
"""Tasks per second, and the tasks of one burst."""

LIMITED = """
    import time

    def tasks():
        yield from range({count})

    rates = ["{rate}/s"]

    def task_function(task):
        time.sleep(0.002)
        return task
    """

FAILS_ONCE = """
    from mutitask_tui import Retry
    from worker_agent import current_task

    retry = Retry(times=1, delay=1, jitter=0.5, never=ValueError)

    def tasks():
        yield from range({count})

    def task_function(task):
        if current_task().attempt == 0:
            raise Retry(after=0) if task % 2 else KeyError(task)
        return task
    """


def kill_some(context: Context, fleet: Fleet, count: int, kills: int) -> None:
    """Kill one of the agents at each of `kills` random marks of done tasks, and restart it at once."""
    start = ("--concurrency", "4", "--device")
    agents: list[Program] = [fleet.agent(*start, str(device)) for device in range(AGENTS)]
    for mark in sorted(context.random.randrange(int(count * 0.9)) for _ in range(kills)):
        wait_for_done(fleet, mark, lambda: None)
        device = context.random.randrange(AGENTS)
        agents[device].kill()
        agents[device] = fleet.agent(*start, str(device))


def claims_and_seconds(fleet: Fleet) -> tuple[int, float]:
    """Return how many claims of tasks the rate allowed after the first burst, and in what time."""
    reader, results = Reader(fleet.redis.url, NAME), list[Result | bytes]()
    while page := reader.results(0, len(results), 1_000)[1]:
        results += page
    # A task that was in flight when its agent died was claimed again.
    claims = len(results) + sum(recorded.crashes for recorded in fleet.results())
    finished = sorted(result.finished_ms for result in results if isinstance(result, Result))
    return claims - RATE, (finished[-1] - finished[0]) / 1000


@scenario("rate-kept", "agents killed while a rate holds tasks back")
def rate_kept(context: Context) -> Row:
    """The rate is the fleet's: dead agents may waste some of it, and the others must use what they leave."""
    seconds, kills = context.size(10, 60), context.size(3, 20)
    count = RATE * (seconds + 1)
    fleet = context.fleet()
    fleet.job(LIMITED.format(count=count, rate=RATE))
    fleet.serve("--lease", "600", "--capacity", str(count))
    with Watch(fleet) as watch:
        kill_some(context, fleet, count, kills)
        row = judge(context, fleet, watch, count, times=kills, timeout=4 * seconds + 60)
    claims, took = claims_and_seconds(fleet)
    measured = claims / took
    row.remarks.append(f"{measured:.1f} tasks/s at a rate of {RATE}/s, over {took:.0f} s")
    row.expect(abs(measured / RATE - 1) <= 0.02, f"{measured:.1f} tasks/s at a rate of {RATE}/s")
    return row


@scenario("retry-storm", "every task fails and runs again, and agents are killed meanwhile")
def retry_storm(context: Context) -> Row:
    """Half of the tasks run again at once, before all others; the rest come back after about a second."""
    count, kills = context.size(4_000, 200_000), context.size(3, 20)
    fleet = context.fleet()
    fleet.job(FAILS_ONCE.format(count=count))
    fleet.serve("--lease", "600", "--capacity", "2000")
    with Watch(fleet) as watch:
        kill_some(context, fleet, count, kills)
        row = judge(context, fleet, watch, count, times=kills, fail_first=1, timeout=300)
    left = fleet.client.exists(fleet.at().retry_reasons, fleet.at().traces, fleet.at().trace_uses)
    row.expect(not left, "reasons or tracebacks of tasks that are done were left behind")
    row.remarks.append(f"{done(fleet):,} tasks failed once, half of them with a delay of about a second")
    return row
