"""Agents that serve six channels, killed or frozen while they hold tasks of several of them."""

from __future__ import annotations

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, expect_promises
from tests.crashes.fleet import Fleet, wait_for_text
from tests.support.programs import Program
from tests.support.waiting import wait_until

CHANNELS = 6
AGENTS = 3


JOB = f"""
    import time
    from pathlib import Path
    from worker_agent import current_task

    def numbers(channel):
        number = 0
        while not Path(FOLDER, "enough").exists():
            yield number
            number += 1
        Path(FOLDER, f"yielded-{{channel}}").write_text(str(number))

    tasks = [numbers(channel) for channel in range({CHANNELS})]
    weights = [1, 1, 1, 1, 1, 3]

    def task_function(task):
        time.sleep(0.002)
        return [current_task().channel, task]
    """
"""Six endless generators that `enough` ends. A task returns its channel and itself."""


def enough(fleet: Fleet) -> list[int]:
    """End the generators. Return the number of tasks that each of them yielded."""
    (fleet.folder / "enough").touch()
    files = [fleet.folder / f"yielded-{channel}" for channel in range(CHANNELS)]
    wait_until(
        lambda: all(file.exists() and file.read_text() for file in files), 60, what="the generators ended"
    )
    return [int(file.read_text()) for file in files]


def held_channels(fleet: Fleet, agent: Program) -> int:
    """Return from how many channels the agent holds tasks."""
    actor = fleet.actor_of(agent)
    return sum(fleet.client.hexists(fleet.at(channel).claim_counts, actor) for channel in range(CHANNELS))


def freeze_with_several_channels(fleet: Fleet, agent: Program) -> str:
    """Freeze the agent while it holds tasks of two channels at least. Return its actor."""
    fleet.freeze_while(
        agent, lambda: held_channels(fleet, agent) >= 2, "the agent holds tasks of two channels"
    )
    return fleet.actor_of(agent)


def judge_channels(context: Context, fleet: Fleet, watch: Watch, times: int) -> Row:
    """Wait until all channels are worked off, and compare every result with its channel and its task."""

    def over() -> bool:
        views = fleet.snapshot().channels
        return all(view.exhausted and view.open == 0 for view in views)

    counts = enough(fleet)
    wait_until(over, 120, what="all channels are worked off")
    views = fleet.snapshot().channels
    lost = twice = 0
    wrong: list[str] = []
    for channel in range(CHANNELS):
        recorded = fleet.results(channel)
        numbers = {each.number for each in recorded}
        lost += len(set(range(counts[channel])) - numbers - {task.number for task in fleet.failed(channel)})
        twice += len(recorded) - len(numbers)
        others = [each for each in recorded if each.value != [channel, each.number]]
        if others:
            wrong.append(f"results of another channel or task in TaskChannel{channel}: {others[:3]}")
    row = Row(
        context.fault, times, sum(v.allotted for v in views), sum(v.done for v in views), sum(v.failed for v in views),
        lost=lost, twice=twice, balanced=not watch.unbalanced, looks=watch.looks, pause_s=watch.pause_s,
    )  # fmt: skip
    row.wrong += wrong
    expect_promises(row, watch)
    row.expect(row.failed == 0, f"{row.failed} innocent tasks failed")
    row.expect(row.allotted == sum(counts), f"{row.allotted} tasks were allotted")
    return row


@scenario("six-channels", "agents of six channels, killed or frozen while they hold tasks of several")
def six_channels(context: Context) -> Row:
    times = context.size(4, 60)
    fleet = context.fleet()
    fleet.job(JOB)
    fleet.serve("--lease", "2", "--capacity", "200")
    start = ("--concurrency", "4", "--device")
    agents = [fleet.agent(*start, str(device)) for device in range(AGENTS)]
    with Watch(fleet) as watch:
        for number in range(times):
            device = context.random.randrange(AGENTS)
            agent = agents[device]
            actor = freeze_with_several_channels(fleet, agent)
            if number % 2:
                agent.kill()
                agents[device] = fleet.agent(*start, str(device))
            else:
                holds = [fleet.at(channel).claims(actor) for channel in range(CHANNELS)]
                wait_until(
                    lambda keys=holds: not fleet.client.exists(*keys), 30, what="all its tasks are recovered"
                )
                serves = agent.stderr.count(" serves ")
                agent.thaw()
                wait_for_text(agent, " serves ", times=serves + 1)
        row = judge_channels(context, fleet, watch, times)
    row.expect(all(agent.running for agent in agents), "an agent ended that should not have")
    row.remarks.append(
        "with a lease of 2 s; every second time the agent is frozen until all its tasks are recovered"
    )
    return row
