"""Redis killed with `kill -9` and restarted from its append-only file."""

from __future__ import annotations

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge, numbers


@scenario("redis-killed", "Redis (`appendfsync always`) killed with `kill -9` and restarted")
def redis_killed(context: Context) -> Row:
    return kill_redis(context, "always")


@scenario("redis-killed-everysec", "the same with `appendfsync everysec`")
def redis_killed_everysec(context: Context) -> Row:
    """The end of the process loses no answered write, because the operating system already has it."""
    return kill_redis(context, "everysec")


def kill_redis(context: Context, fsync: str) -> Row:
    """Kill Redis at random marks of done tasks. The watch checks that no count goes down."""
    count, kills = context.size(2_000, 20_000), context.size(3, 20)
    fleet = context.fleet(on=context.redis(durable=True, fsync=fsync))
    fleet.job(numbers(count))
    programs = [fleet.serve("--capacity", "200")]
    programs += [fleet.agent("--device", device) for device in ("0", "1")]
    marks = sorted(context.random.randrange(1, int(count * 0.9)) for _ in range(kills))
    with Watch(fleet) as watch:
        for mark in marks:
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            fleet.redis.kill()
            fleet.redis.start()
        row = judge(context, fleet, watch, count, times=kills)
    ended = [program for program in programs if not program.running]
    row.expect(not ended, f"a process ended: {ended}")
    crashed = sum(each.crashes > 0 for each in fleet.results())
    row.expect(crashed == 0, f"{crashed} tasks were taken from agents that lived")
    row.remarks.append("no process ended; no task ran twice")
    return row
