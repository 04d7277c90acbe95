"""Redis refuses calls or is slow, again and again: out of memory, read-only, short of replicas, busy, loading."""

from __future__ import annotations

import time

from tests.chaos.network import expect_no_crash, expect_running
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.faults.states import STATES, State, frozen_answers
from tests.support.programs import Program
from tests.support.waiting import wait_until

LEASE_S = 4


def starting(context: Context) -> tuple[Fleet, list[Program]]:
    """Start a server and two agents on a durable Redis, with a job that allots until `enough` is called."""
    fleet = context.fleet(on=context.redis(durable=True, fsync="always"))
    fleet.job(until_enough())
    programs = [fleet.serve("--lease", str(LEASE_S), "--capacity", "200")]
    programs += [fleet.agent("--device", str(device)) for device in range(2)]
    return fleet, programs


def hold(fleet: Fleet, state: State, seconds: float) -> None:
    """Keep Redis in the state for `seconds`, then wait until work continues."""
    with state.context(fleet.redis):
        time.sleep(seconds)
    before = fleet.counters()
    wait_until(
        lambda: fleet.counters().done > before.done + 50 and fleet.counters().allotted > before.allotted,
        30, what=f"work continues after: {state}",
    )  # fmt: skip


@scenario(
    "redis-refuses", "Redis out of memory, read-only, without a master, short of replicas, busy, loading"
)
def redis_refuses(context: Context) -> Row:
    """Enter every state in random order, for less and for more than a lease."""
    rounds = context.size(1, 4)
    fleet, programs = starting(context)
    with Watch(fleet) as watch:
        for _ in range(rounds):
            for state in context.random.sample(STATES, len(STATES)):
                hold(fleet, state, context.random.uniform(0.5, context.size(1, 2 * LEASE_S)))
        row = judge(context, fleet, watch, enough(fleet), times=rounds * len(STATES))
    expect_running(row, programs)
    expect_no_crash(row, fleet)
    row.remarks.append(f"each for up to {context.size(1, 2 * LEASE_S)} s, with a lease of {LEASE_S} s")
    row.remarks.append("no process ended; no task ran twice")
    return row


@scenario("redis-slow", "Redis sends no answer for longer than a call waits (`CLIENT PAUSE`)")
def redis_slow(context: Context) -> Row:
    """Every caller times out and sends its call again. When the pause ends, Redis also executes the first copies."""
    pauses = context.size(1, 6)
    fleet, programs = starting(context)
    with Watch(fleet) as watch:
        for _ in range(pauses):
            wait_until(lambda: watch.looks > 20, what="the watch has taken 20 snapshots")
            hold(fleet, frozen_answers(context.random.uniform(5.5, 8.0)), 0.0)
        row = judge(context, fleet, watch, enough(fleet), times=pauses)
    expect_running(row, programs)
    expect_no_crash(row, fleet)
    row.remarks.append(f"for 5.5 to 8 s, with a lease of {LEASE_S} s")
    row.remarks.append("no process ended; no task ran twice")
    return row
