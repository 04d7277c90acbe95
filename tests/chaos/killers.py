"""Tasks that kill the process that runs them, among other tasks: only the killers fail (law 9)."""

from __future__ import annotations

from tests.chaos.agents import wait_for_place
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge
from tests.crashes.fleet import Fleet
from tests.support.waiting import wait_until

DEATHS = (
    "os._exit(0)", "os._exit(1)", "os.kill(os.getpid(), 9)", "os.abort()", "ctypes.string_at(0)",
)  # fmt: skip
AGENTS = 4


def job_with_killers(count: int, killers: dict[int, str]) -> str:
    """Return a job of tasks 0, 1, 2, ..., in which each killer ends its process in its own way."""
    deaths = "\n".join(f"            if task == {number}: {death}" for number, death in killers.items())
    return f"""
        import ctypes, os, time

        def tasks():
            yield from range({count})

        def task_function(task):
{deaths}
            time.sleep(0.001)
            return task
        """


def expect_all_crashed(row: Row, fleet: Fleet) -> None:
    """Expect that every failed task has the stage `crashed`."""
    stages = {task.stage for task in fleet.failed()}
    row.expect(stages == {"crashed"}, f"killers failed as {stages}")


@scenario(
    "killers-in-threads",
    "tasks that kill their agent: `os._exit`, `kill -9`, abort, segfault",
)
def killers_in_threads(context: Context) -> Row:
    count, many = context.size(2_000, 20_000), context.size(3, 40)
    killers = {number: context.random.choice(DEATHS) for number in context.random.sample(range(count), many)}
    fleet = context.fleet()
    fleet.job(job_with_killers(count, killers))
    fleet.serve("--lease", "600", "--capacity", "400")
    agents = [fleet.candidate("--device", str(device)) for device in range(AGENTS)]
    ended = 0
    with Watch(fleet) as watch:

        def over() -> bool:
            nonlocal ended
            for device, agent in enumerate(agents):
                if not agent.running:
                    ended += 1
                    agents[device] = fleet.candidate("--device", str(device))
            counters = fleet.counters()
            return counters.exhausted and counters.open == 0

        wait_until(over, 300, every=0.02, what="every task is done or failed")
        row = judge(context, fleet, watch, count, times=many, killers=killers)
    expect_all_crashed(row, fleet)
    # A killer that was claimed behind another one counts that crash too, although it had not started.
    row.expect(2 * many < ended <= 3 * many, f"{many} killers ended {ended} agents")
    row.remarks.append(f"{ended} agents ended")
    return row


@scenario("killers-in-processes", "the same tasks with `--kind process`")
def killers_in_processes(context: Context) -> Row:
    count, many = context.size(2_000, 20_000), context.size(5, 40)
    killers = {number: context.random.choice(DEATHS) for number in context.random.sample(range(count), many)}
    fleet = context.fleet()
    fleet.job(job_with_killers(count, killers))
    fleet.serve("--lease", "600", "--capacity", "400")
    agents = [fleet.candidate("--device", str(device), "--kind", "process") for device in range(2)]
    for agent in agents:
        wait_for_place(agent)
    with Watch(fleet) as watch:
        row = judge(context, fleet, watch, count, times=many, killers=killers, timeout=300)
    expect_all_crashed(row, fleet)
    row.expect(all(agent.running for agent in agents), f"an agent ended: {agents}")
    row.remarks.append("no agent ended")
    return row
