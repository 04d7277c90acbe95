"""Law 2: an allotted task runs until it is done or failed, whatever happens to its agent."""

from __future__ import annotations

import re
from socket import gethostname

from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program

COUNT = 1_500
SHORT_TASKS = f"""
import time

def tasks():
    yield from range({COUNT})

def task_function(task):
    time.sleep(0.001)
    return f"result {{task}}"
"""
RESULTS = [f"result {number}" for number in range(COUNT)]

TWO_PARTS = """
import time
from pathlib import Path

def tasks():
    yield from range(600)
    while not Path(FOLDER, "go").exists():
        time.sleep(0.01)
    yield from range(600, 900)

def task_function(task):
    time.sleep(0.001)
    return task
"""


def redis_now_ms(fleet: Fleet) -> int:
    seconds, micros = fleet.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def freeze_in_the_middle(fleet: Fleet, agent: Program) -> str:
    """Freeze an agent that has tasks in flight. Return its actor."""
    fleet.wait_for(lambda counters: counters.done >= 200)
    fleet.freeze_with_claims(agent)
    return fleet.actor_of(agent)


def expect_recovered_and_each_once(fleet: Fleet, expected: list) -> None:
    """Expect that all tasks are done once without a used retry, and that some were in flight when an agent died."""
    results = fleet.expect_each_once(expected)
    assert {recorded.attempt for recorded in results} == {0}
    assert {recorded.crashes for recorded in results} == {0, 1}


def test_an_agent_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(fleet, wait_until):
    fleet.job(SHORT_TASKS)
    fleet.serve("--lease", "600", "--capacity", "400")
    victim = fleet.agent("--device", "0")
    freeze_in_the_middle(fleet, victim)
    heir = fleet.agent("--device", "1")

    victim.kill()

    # The lease is ten minutes, so the server must have seen that the process is gone.
    wait_until(lambda: fleet.client.hget(fleet.keys.agents, "0") is None)
    expect_recovered_and_each_once(fleet, RESULTS)
    assert heir.running


def test_tasks_of_a_killed_agent_are_recovered_without_a_server(fleet):
    fleet.job(SHORT_TASKS)
    server = fleet.serve("--lease", "2", "--capacity", str(COUNT))
    fleet.wait_for(lambda counters: counters.exhausted)
    server.terminate()
    assert server.wait() == 0, server
    victim = fleet.agent("--device", "0")
    freeze_in_the_middle(fleet, victim)
    heir = fleet.agent("--device", "1")

    victim.kill()

    expect_recovered_and_each_once(fleet, RESULTS)
    assert fleet.snapshot().server is None
    assert "tasks of an agent that died" in heir.stderr


def test_tasks_of_an_agent_on_another_machine_are_recovered_when_its_lease_expires(fleet, wait_until):
    fleet.job(SHORT_TASKS)
    server = fleet.serve("--lease", "2", "--capacity", "400")
    server.freeze()  # The server must not see the agent before its boot id is changed.
    victim = fleet.agent("--device", "0")
    actor = fleet.actor_of(victim)
    fleet.client.hset(fleet.keys.actor(actor), "boot", "another machine's")
    server.thaw()
    freeze_in_the_middle(fleet, victim)
    actor = fleet.actor_of(victim)
    lease_ends = fleet.client.zscore(fleet.keys.leases, actor)

    victim.kill()
    fleet.agent("--device", "1")
    wait_until(lambda: not fleet.client.exists(fleet.at().claims(actor)))

    assert redis_now_ms(fleet) >= lease_ends
    expect_recovered_and_each_once(fleet, RESULTS)


def test_an_agent_that_was_frozen_until_others_had_its_tasks_continues_as_a_new_actor(fleet):
    fleet.job(TWO_PARTS)
    fleet.serve("--lease", "2", "--capacity", "400")
    frozen = fleet.agent("--device", "0")
    before = freeze_in_the_middle(fleet, frozen)
    other = fleet.agent("--device", "1")
    fleet.wait_for(lambda counters: counters.done == 600)

    frozen.thaw()

    wait_for_text(frozen, "Device0 was fenced")
    wait_for_text(frozen, " serves ", times=2)
    assert re.search(r"\b[1-9]\d* tasks in flight were recovered and are dropped here", frozen.stderr), frozen
    assert fleet.actor_of(frozen) != before
    other.terminate()
    assert other.wait() == 0, other
    (fleet.folder / "go").touch()
    expect_recovered_and_each_once(fleet, list(range(900)))
    assert {recorded.device for recorded in fleet.results() if recorded.number >= 600} == {0}


def test_an_agent_that_was_frozen_ends_if_another_agent_has_its_device(fleet, wait_until):
    fleet.job(TWO_PARTS)
    fleet.serve("--lease", "2", "--capacity", "400")
    frozen = fleet.agent("--device", "0")
    before = freeze_in_the_middle(fleet, frozen)
    wait_until(lambda: not fleet.client.exists(fleet.at().claims(before)))
    successor = fleet.agent("--device", "0")

    frozen.thaw()

    assert frozen.wait() == 4, frozen
    assert "Device0 was fenced" in frozen.stderr
    assert f"Device0 already has an agent: {gethostname()} pid {successor.pid}" in frozen.stderr
    (fleet.folder / "go").touch()
    expect_recovered_and_each_once(fleet, list(range(900)))
    assert successor.running
