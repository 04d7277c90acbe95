"""Agents stop in order, and two agents never share a device (laws 2, 4 and 7)."""

from __future__ import annotations

import re
from signal import SIGTERM
from socket import gethostname

from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program

LONG = "the long one"
COUNT = 200
ONE_LONG_TASK = f"""
import time
from pathlib import Path

TASKS = [{LONG!r}, *range({COUNT - 1})]

def tasks():
    yield from TASKS

def task_function(task):
    if task != {LONG!r}:
        time.sleep(0.005)
        return task
    Path(FOLDER, "began").touch()
    while not Path(FOLDER, "release").exists():
        time.sleep(0.01)
    return task
"""
EACH = [LONG, *range(COUNT - 1)]


def stop_with_a_long_task_and_others_in_hand(fleet: Fleet) -> Program:
    """Stop an agent that runs the long task in one thread and has claimed other tasks behind it."""
    fleet.job(ONE_LONG_TASK)
    fleet.serve("--capacity", str(COUNT), "--lease", "600")
    agent = fleet.agent("--device", "0", "--concurrency", "2")
    fleet.wait_for(lambda counters: counters.done >= 20)
    assert (fleet.folder / "began").exists()
    fleet.freeze_with_claims(agent, least=6)
    agent.terminate()
    agent.thaw()
    wait_for_text(agent, "stopping: waiting for ")
    return agent


def handed_back(agent: Program) -> int:
    (said,) = re.findall(r"stopped; (\d+) tasks handed back", agent.stderr)
    return int(said)


def expect_no_crash_counted(fleet: Fleet) -> None:
    results = fleet.expect_each_once(EACH)
    assert {(recorded.attempt, recorded.crashes) for recorded in results} == {(0, 0)}


def test_a_stopped_agent_hands_back_tasks_that_have_not_started_and_finishes_running_ones(fleet):
    agent = stop_with_a_long_task_and_others_in_hand(fleet)
    fleet.agent("--device", "1")

    fleet.wait_for(lambda counters: counters.done == COUNT - 1)
    assert agent.running
    assert fleet.held_by(agent) == 1
    (fleet.folder / "release").touch()

    assert agent.wait() == 0, agent
    assert handed_back(agent) >= 1
    expect_no_crash_counted(fleet)


def test_an_agent_stopped_twice_ends_at_once_and_hands_back_running_tasks(fleet):
    agent = stop_with_a_long_task_and_others_in_hand(fleet)

    agent.terminate()

    assert agent.wait() == 1, agent
    assert handed_back(agent) >= 2
    assert fleet.counters().claimed == 0
    assert fleet.client.hget(fleet.keys.agents, "0") is None
    (fleet.folder / "release").touch()
    fleet.agent("--device", "0")
    expect_no_crash_counted(fleet)


def test_an_agent_that_waits_for_a_server_stops_when_asked(fleet):
    fleet.job(ONE_LONG_TASK)
    agent = fleet.agent_later()

    agent.signal(SIGTERM)

    assert agent.wait() == 0, agent


def test_exit_ends_agents_and_server_in_order_and_leaves_waiting_tasks(fleet):
    fleet.job(
        """
        import time
        from pathlib import Path

        def tasks():
            yield from range(200)

        def task_function(task):
            while task >= 50 and not Path(FOLDER, "open").exists():
                time.sleep(0.01)
            return task
        """
    )
    server = fleet.serve("--capacity", "40")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    fleet.wait_for(lambda counters: counters.done == 50 and counters.waiting > 0)

    said = fleet.ctl("exit")

    assert "asked 2 agents to stop and the server to close after them" in said
    for agent in agents:
        wait_for_text(agent, "asked to stop")
    (fleet.folder / "open").touch()
    assert [program.wait() for program in (*agents, server)] == [0, 0, 0], (server, agents)
    counters = fleet.counters()
    assert counters.waiting > 0
    assert (counters.claimed, counters.exhausted, counters.balanced) == (0, False, True)
    assert fleet.snapshot().server is None
    fleet.serve("--resume")
    fleet.agent("--device", "0")
    assert {recorded.attempt for recorded in fleet.expect_each_once(list(range(200)))} == {0}


def test_a_device_has_one_agent_and_refuses_a_second_one_by_naming_the_first(fleet):
    fleet.job(ONE_LONG_TASK)
    fleet.serve("--lease", "600")
    first = fleet.agent("--device", "3")

    second = fleet.candidate("--device", "3")

    assert second.wait() == 4, second
    told = f"Device3 already has an agent: {gethostname()} pid {first.pid}, since "
    assert re.search(re.escape(told) + r"\d\d:\d\d:\d\d; choose another --device", second.stderr), second
    assert first.running


def test_an_agent_without_a_device_takes_the_first_free_one(fleet):
    fleet.job(ONE_LONG_TASK)
    fleet.serve("--lease", "600")
    agents = [fleet.agent("--device", device) for device in ("0", "auto", "auto")]

    actors = [fleet.client.hget(fleet.keys.agents, str(device)).decode() for device in range(3)]
    assert actors == [fleet.actor_of(agent) for agent in agents]


def test_the_device_of_a_killed_agent_is_taken_over_at_once(fleet):
    fleet.job(ONE_LONG_TASK)
    (fleet.folder / "release").touch()
    server = fleet.serve("--lease", "600", "--capacity", str(COUNT))
    first = fleet.agent("--device", "0")
    fleet.wait_for(lambda counters: counters.exhausted and counters.done >= 20)
    fleet.freeze_with_claims(first)
    server.terminate()  # No process is left to fence the agent: the new agent sees that its process is gone.
    assert server.wait() == 0, server
    first.kill()

    second = fleet.agent("--device", "0")

    assert "took over Device0 from an agent that is gone" in second.stderr
    assert {recorded.attempt for recorded in fleet.expect_each_once(EACH)} == {0}


def test_an_agent_that_starts_after_all_were_asked_to_stop_is_asked_too(fleet):
    fleet.job("def tasks():\n    yield from range(200)\n\ndef task_function(task):\n    return task\n")
    server = fleet.serve("--capacity", "40", "--lease", "60", autostart=False)
    first = fleet.agent("--device", "0")
    first.freeze()  # The server then waits for this agent.
    assert "asked 1 agent to stop" in fleet.ctl("exit")

    late = fleet.agent("--device", "1")

    assert late.wait() == 0, late
    assert server.running
    first.thaw()
    assert [program.wait() for program in (first, server)] == [0, 0], (first, server)
