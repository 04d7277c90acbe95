"""A Redis that refuses for a while: everybody says why, waits and goes on; nothing is lost or counted twice."""

from __future__ import annotations

import pytest

from tests.crashes.fleet import Fleet, wait_for_text
from tests.faults.states import STATES, State
from tests.support.programs import Program
from tests.support.waiting import wait_until

COUNT = 1_500
ROOM = 300


def at_work(fleet: Fleet, seconds: float) -> tuple[Program, list[Program]]:
    """A server and two agents on `COUNT` tasks that take so long each."""
    fleet.job(
        f"""
        import time

        def tasks():
            yield from range({COUNT})

        def task_function(task):
            time.sleep({seconds})
            return task
        """
    )
    server = fleet.serve("--lease", "5", "--capacity", str(ROOM))
    agents = [fleet.agent("--device", str(device)) for device in range(2)]
    return server, agents


def waits(program: Program, why: str) -> bool:
    """Whether it said that, and that it tries again; a line of progress says the first alone."""
    assert program.running, program
    return any(why in line and "again" in line for line in program.stderr.splitlines())


@pytest.mark.parametrize("state", [s for s in STATES if s.name != "without a master"], ids=str)
def test_a_redis_that_refuses_for_a_while_is_waited_for_and_loses_nothing(
    own_fleet: Fleet, state: State
) -> None:
    fleet = own_fleet
    server, agents = at_work(fleet, 0.001)
    fleet.wait_for(lambda books: books.done >= 200)

    with state.enter(fleet.redis):
        for program in (server, *agents):
            wait_until(lambda p=program: waits(p, state.said), 20, what=f"it says why it waits: {program}")
    fleet.every_write_on_disk()

    results = fleet.expect_each_once(list(range(COUNT)))
    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    for program in (server, *agents):
        assert program.running, program
        wait_for_text(program, "answers again")


def test_scripts_that_redis_forgets_again_and_again_are_sent_again(fleet: Fleet) -> None:
    server, agents = at_work(fleet, 0.0005)

    def forgotten_until_done() -> bool:
        fleet.client.script_flush()
        return fleet.client.hget(fleet.at().agent_counters, "done") == str(COUNT).encode()

    wait_until(forgotten_until_done, 40, every=0.005, what="all is done")

    results = fleet.expect_each_once(list(range(COUNT)))
    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}
    for program in (server, *agents):
        assert program.running, program
        assert "trying again" not in program.stderr, "NOSCRIPT is no trouble worth a word"
