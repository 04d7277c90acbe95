"""A Redis that refuses commands for a while: all programs report it, wait and continue; no task is lost or doubled."""

from __future__ import annotations

import pytest

from tests.crashes.fleet import Fleet, wait_for_text
from tests.faults.states import STATES, State
from tests.support.programs import Program
from tests.support.waiting import wait_until

COUNT = 1_500
ROOM = 300


def at_work(fleet: Fleet, seconds: float) -> tuple[Program, list[Program]]:
    """Start a server and two agents on `COUNT` tasks that take `seconds` each."""
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
    """Return whether the program reported this and that it tries again. A progress line has only the first part."""
    assert program.running, program
    lines = [line for line in program.stderr.splitlines() if why in line]
    return any("trying again" in line or "heartbeats are retried" in line for line in lines)


@pytest.mark.parametrize("state", [s for s in STATES if s.name != "without a master"], ids=str)
def test_a_redis_that_refuses_for_a_while_is_waited_for_and_loses_nothing(
    own_fleet: Fleet, state: State
) -> None:
    fleet = own_fleet
    server, agents = at_work(fleet, 0.001)
    fleet.wait_for(lambda counters: counters.done >= 200)

    with state.context(fleet.redis):
        for program in (server, *agents):
            wait_until(
                lambda p=program: waits(p, state.message), 20, what=f"it reports why it waits: {program}"
            )
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
        assert "trying again" not in program.stderr, "NOSCRIPT is not reported"
