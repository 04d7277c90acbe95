"""Agents and servers that are frozen until others take over, and then wake."""

from __future__ import annotations

import re

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program
from tests.support.waiting import wait_until

LEASE = ("--lease", "2")
DROPPED = re.compile(r"\b([1-9]\d*) tasks in flight were recovered and are dropped here")


def freeze_until_recovered(fleet: Fleet, agent: Program) -> None:
    """Freeze an agent with tasks in flight until other agents have these tasks."""
    fleet.freeze_with_claims(agent)
    actor = fleet.actor_of(agent)
    wait_until(lambda: not fleet.client.exists(fleet.at().claims(actor)), 30, what="its tasks are recovered")


def wake_to_a_free_device(fleet: Fleet, wrong: list[str], agent: Program) -> Program:
    """Wake the agent. It reports the tasks that it drops, and continues on its device as a new actor."""
    serves_count = agent.stderr.count(" serves ")
    agent.thaw()
    wait_for_text(agent, " serves ", times=serves_count + 1)
    if not DROPPED.search(agent.stderr):
        wrong.append(f"a frozen agent did not say what it dropped: {agent}")
    before = fleet.device(1).done
    wait_until(lambda: fleet.device(1).done > before, 20, what="it continues with a new claim")
    return agent


def wake_beside_a_successor(fleet: Fleet, wrong: list[str], agent: Program) -> Program:
    """Wake the agent beside a successor. It drops its tasks, names the successor on its device, and ends."""
    successor = fleet.agent("--device", "1")
    agent.thaw()
    status = agent.wait()
    if status != 4 or not DROPPED.search(agent.stderr) or f" pid {successor.pid}" not in agent.stderr:
        wrong.append(f"a frozen agent beside its successor ended with {status}: {agent}")
    return successor


@scenario(
    "agents-frozen",
    "agents frozen until other agents have their tasks; every second time, a successor takes the device",
)
def agents_frozen(context: Context) -> Row:
    times = context.size(2, 20)
    fleet = context.fleet()
    fleet.job(until_enough(0.002))
    fleet.serve(*LEASE, "--capacity", "400")
    others = [fleet.agent("--device", device) for device in ("0", "2")]
    agent = fleet.agent("--device", "1")
    wrong: list[str] = []
    with Watch(fleet) as watch:
        for time in range(times):
            mark = fleet.counters().done + context.random.randrange(20, 200)
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark)
            freeze_until_recovered(fleet, agent)
            wake = wake_to_a_free_device if time % 2 else wake_beside_a_successor
            agent = wake(fleet, wrong, agent)
        row = judge(context, fleet, watch, enough(fleet), times=times)
    row.wrong += wrong
    row.expect(all(program.running for program in (agent, *others)), "an agent ended that should not have")
    row.remarks.append("with a lease of 2 s")
    return row


@scenario("servers-frozen", "servers frozen until a successor feeds, then woken beside it")
def servers_frozen(context: Context) -> Row:
    times = context.size(1, 10)
    fleet = context.fleet()
    fleet.job(until_enough(0.002))
    server = fleet.serve(*LEASE, "--capacity", "100")
    agents = [fleet.agent("--device", device) for device in ("0", "1")]
    wrong: list[str] = []
    with Watch(fleet) as watch:
        for _ in range(times):
            mark = fleet.counters().allotted + context.random.randrange(50, 300)
            fleet.wait_for(lambda counters, mark=mark: counters.allotted >= mark)
            server.freeze()
            frozen, server = server, fleet.serve(*LEASE, "--resume")
            mark = fleet.counters().allotted + context.random.randrange(1, 200)
            fleet.wait_for(lambda counters, mark=mark: counters.allotted >= mark)
            frozen.thaw()
            status = frozen.wait()
            if status != 4 or f"(pid {server.pid}) holds this namespace now" not in frozen.stderr:
                wrong.append(f"a frozen server that woke beside its successor ended with {status}: {frozen}")
        row = judge(context, fleet, watch, enough(fleet), times=times)
    row.wrong += wrong
    row.expect(all(program.running for program in (server, *agents)), "an agent or the last server ended")
    row.remarks.append("each woken server exits with status 4 and names its successor")
    return row
