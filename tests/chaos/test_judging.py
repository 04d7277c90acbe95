"""`judge` detects each kind of error that it checks for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.scenarios import Context
from tests.chaos.watching import Watch, judge, numbers
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

COUNT = 20


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context("judging", "a fault", seed=0, long=False)
    yield made
    made.close()


@pytest.fixture
def fleet(context: Context) -> Fleet:
    """A namespace in which all tasks of a job of `numbers` are done."""
    fleet = context.fleet()
    fleet.job(numbers(COUNT))
    fleet.agent_later("--device", "0")
    assert fleet.newcomer("--autostart", "--until-done").wait() == 0
    return fleet


def test_a_run_without_a_fault_has_nothing_wrong(context: Context, fleet: Fleet) -> None:
    with Watch(fleet) as watch:
        wait_until(lambda: watch.looks)
        row = judge(context, fleet, watch, COUNT, times=0)
    assert not row.wrong
    assert (row.allotted, row.done, row.failed, row.lost, row.twice, row.balanced) == (
        COUNT,
        COUNT,
        0,
        0,
        0,
        True,
    )


def test_a_lost_task_a_doubled_task_and_a_wrong_value_are_detected(context: Context, fleet: Fleet) -> None:
    results = fleet.at().results
    first, second, third = fleet.client.lrange(results, 0, 2)
    fleet.client.lset(results, 0, second)
    fleet.client.lset(results, 2, third[:-1] + first[-1:])
    with Watch(fleet) as watch:
        wait_until(lambda: watch.looks)
        row = judge(context, fleet, watch, COUNT, times=0)
    assert (row.lost, row.twice) == (1, 1)
    assert {wrong.split(":")[0] for wrong in row.wrong} == {
        "1 tasks were lost", "1 results were recorded twice", "an item was allotted under another's number",
    }  # fmt: skip


def test_counters_that_do_not_balance_or_go_down_are_detected(context: Context, fleet: Fleet) -> None:
    with Watch(fleet) as watch:
        wait_until(lambda: watch.looks)
        fleet.client.hincrby(fleet.at().agent_counters, "done", -1)
        wait_until(lambda: watch.unbalanced and watch.back)
        fleet.client.hincrby(fleet.at().agent_counters, "done", 1)
        row = judge(context, fleet, watch, COUNT, times=0)
    assert not row.balanced
    assert [wrong.split(":")[0] for wrong in row.wrong] == [
        "the counters did not balance", "what Redis had acknowledged is gone",
    ]  # fmt: skip
