"""Law 5: the generator's position is saved with its tasks, whatever happens to the server."""

from __future__ import annotations

from socket import gethostname

from tests.crashes.fleet import Fleet
from tests.support.programs import Program

COUNT = 1_200


def counted(stands: str = "False") -> str:
    """Return a job of `COUNT` tasks of 1 ms. Its generator waits before item `number` while `stands` is true."""
    return f"""
import time
from pathlib import Path

def tasks():
    for number in range({COUNT}):
        while {stands}:
            time.sleep(0.002)
        yield [number, f"item {{number}}"]

def task_function(task):
    time.sleep(0.001)
    return task
"""


COUNTED = counted()
IN_STAGES = counted("number >= 400 + 300 * len(list(Path(FOLDER).glob('stage-*')))")
"""The same tasks. Each `next_stage` releases only the next 300, so that the server still feeds on a slow machine."""
EACH = [[number, f"item {number}"] for number in range(COUNT)]


def next_stage(fleet: Fleet, stage: int) -> None:
    """Release the next 300 items of the generator of `IN_STAGES`."""
    (fleet.folder / f"stage-{stage}").touch()


def test_a_server_killed_again_and_again_resumes_at_exactly_the_next_item(fleet):
    fleet.job(IN_STAGES)
    agents = [fleet.agent_later("--device", str(device)) for device in (0, 1)]
    server = fleet.serve("--lease", "600", "--capacity", "40")
    for part in (1, 2, 3):
        fleet.wait_for(lambda counters, part=part: counters.allotted >= part * 250)
        server.kill()
        assert not fleet.counters().exhausted
        next_stage(fleet, part)
        server = fleet.serve("--lease", "600", "--resume", "--until-done")

    results = fleet.expect_each_once(EACH)

    assert server.wait() == 0, server
    assert f"{COUNT:,} tasks allotted: {COUNT:,} done, 0 failed; counters balanced" in server.stderr
    assert {recorded.attempt for recorded in results} == {0}
    assert all(agent.running for agent in agents), agents


def freeze_while_feeding(fleet: Fleet, server: Program) -> None:
    fleet.wait_for(lambda counters: counters.allotted >= 250)
    server.freeze()
    for stage in (1, 2, 3):
        next_stage(fleet, stage)


def test_a_server_that_was_frozen_while_a_successor_resumed_allots_nothing_more(fleet):
    fleet.job(IN_STAGES)
    agent = fleet.agent_later("--device", "0")
    frozen = fleet.serve("--lease", "2", "--capacity", "40")
    freeze_while_feeding(fleet, frozen)
    successor = fleet.serve("--resume", "--lease", "2")
    fleet.wait_for(lambda counters: counters.allotted >= 500)

    frozen.thaw()

    assert frozen.wait() == 4, frozen
    assert f"a server on {gethostname()} (pid {successor.pid}) holds this namespace now" in frozen.stderr
    fleet.expect_each_once(EACH)
    assert agent.running
    assert successor.running


def test_a_server_that_was_frozen_past_its_lease_continues_if_no_other_took_over(fleet, wait_until):
    fleet.job(IN_STAGES)
    fleet.agent_later("--device", "0")
    server = fleet.serve("--lease", "2", "--capacity", "40", "--until-done")
    freeze_while_feeding(fleet, server)
    wait_until(lambda: fleet.snapshot().server is None, what="its lease has expired")

    server.thaw()

    fleet.expect_each_once(EACH)
    assert server.wait() == 0, server


def test_agents_continue_when_their_server_is_asked_to_stop(fleet):
    fleet.job(COUNTED)
    server = fleet.serve("--capacity", str(COUNT))
    fleet.wait_for(lambda counters: counters.exhausted)
    server.terminate()
    assert server.wait() == 0, server

    agent = fleet.agent("--device", "0")
    successor = fleet.serve("--resume")
    fleet.wait_for(lambda counters: counters.done > 0)
    successor.terminate()
    assert successor.wait() == 0, successor

    fleet.expect_each_once(EACH)
    assert agent.running
    assert fleet.snapshot().server is None


def test_a_second_server_is_refused_with_the_address_of_the_first(fleet):
    """The options of the second server and the length of its lease make no difference."""
    fleet.job(COUNTED)
    server = fleet.serve("--lease", "2")

    seconds = [fleet.newcomer(*wanted) for wanted in ([], ["--resume", "--lease", "2"], ["--fresh"])]

    for second in seconds:
        assert second.wait() == 4, second
        told = f"namespace 'crash' already has a server: {gethostname()} pid {server.pid}, since "
        assert told in second.stderr
        assert "`mutitask attach --name crash`" in second.stderr
    assert server.running
