"""Task functions that hold Python's lock (the GIL) for longer than the lease, in threads and in child processes."""

from __future__ import annotations

import time

from tests.chaos.network import expect_no_crash, expect_running
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import wait_for_text
from tests.support.programs import Program
from tests.support.waiting import wait_until


def job(hold_s: int) -> str:
    """Return a job in which the first task that finds the file `hold` removes it and holds the GIL for `hold_s` s."""
    holding = f"""
        import ctypes, os
        from worker_agent import current_task

        plain = task_function

        def task_function(task):
            try:
                os.unlink(Path(FOLDER, "hold"))
            except FileNotFoundError:
                return plain(task)
            Path(FOLDER, "holding").write_text(f"{{current_task().device}} ")
            ctypes.PyDLL(None).sleep({hold_s})
            Path(FOLDER, "held").touch()
            return task
        """
    return until_enough(0.002) + holding


class Holding:
    """A fleet of two agents in which one task holds the GIL on request. All times are in seconds."""

    def __init__(self, context: Context, kind: str) -> None:
        self.lease_s = context.size(2, 10)
        self.hold_s = context.size(5, 30)
        self.times = context.size(1, 3)
        self._random = context.random
        self.fleet = context.fleet()
        self.fleet.job(job(self.hold_s))
        self.server = self.fleet.serve("--lease", str(self.lease_s), "--capacity", "400")
        self.agents = [self.fleet.agent("--device", device, "--kind", kind) for device in ("0", "1")]

    def begin(self) -> tuple[Program, str]:
        """Let one task take the GIL. Return its agent and the agent's actor."""
        mark = self.fleet.counters().done + self._random.randrange(20, 400)
        self.fleet.wait_for(lambda counters: counters.done >= mark)
        holding = self.fleet.folder / "holding"
        (self.fleet.folder / "hold").touch()
        wait_until(
            lambda: holding.exists() and holding.read_text().endswith(" "), what="a task holds the GIL"
        )
        agent = self.agents[int(holding.read_text())]
        holding.unlink()
        return agent, self.fleet.actor_of(agent)

    @property
    def over(self) -> bool:
        """True if the task has released the GIL."""
        return (self.fleet.folder / "held").exists()

    def forget(self) -> None:
        (self.fleet.folder / "held").unlink()


def longest_silence(held: Holding, actor: str) -> float:
    """Return the longest time without a renewed lease, in seconds, while the task holds the GIL."""
    longest, renewed, expiry = 0.0, time.monotonic(), None
    end = renewed + held.hold_s + 30
    while not held.over:
        assert time.monotonic() < end, "the task still holds the GIL"
        if (now := held.fleet.client.zscore(held.fleet.keys.leases, actor)) != expiry:
            renewed, expiry = time.monotonic(), now
        longest = max(longest, time.monotonic() - renewed)
        time.sleep(0.02)
    return longest


@scenario(
    "gil-in-processes", "a task function that holds the GIL for longer than the lease, with `--kind process`"
)
def gil_in_processes(context: Context) -> Row:
    """The agent sends heartbeats all the time."""
    held, silence_s = Holding(context, "process"), 0.0
    with Watch(held.fleet) as watch:
        for _ in range(held.times):
            _, actor = held.begin()
            silence_s = max(silence_s, longest_silence(held, actor))
            held.forget()
        row = judge(context, held.fleet, watch, enough(held.fleet), times=held.times)
    expect_running(row, [held.server, *held.agents])
    expect_no_crash(row, held.fleet)
    row.expect(silence_s < held.lease_s, f"its agent was silent for {silence_s:.1f} s")
    lost = [agent for agent in held.agents if "was fenced" in agent.stderr]
    row.expect(not lost, f"an agent was fenced: {lost}")
    row.remarks.append(f"for {held.hold_s} s, with a lease of {held.lease_s} s")
    row.remarks.append(f"at most {silence_s:.1f} s between the heartbeats of its agent; no task ran twice")
    return row


@scenario("gil-in-threads", "the same function in a thread of its agent")
def gil_in_threads(context: Context) -> Row:
    """The agent looks frozen: others get its tasks, its late settle is refused, and its log says why."""
    held, longest_s = Holding(context, "thread"), 0.0
    fleet = held.fleet
    with Watch(fleet) as watch:
        for _ in range(held.times):
            agent, actor = held.begin()
            started_at, serves_count = time.monotonic(), agent.stderr.count(" serves ")
            claims = fleet.at().claims(actor)
            wait_until(
                lambda claims=claims: not fleet.client.exists(claims), 60, what="its tasks are recovered"
            )
            longest_s = max(longest_s, time.monotonic() - started_at)
            assert not held.over, "its tasks were recovered only after it released the GIL"
            wait_until(lambda: held.over, held.hold_s + 30, what="the GIL is released")
            held.forget()
            wait_for_text(agent, " serves ", times=serves_count + 1)
        row = judge(context, fleet, watch, enough(fleet), times=held.times)
    expect_running(row, [held.server, *held.agents])
    for said in (
        "was fenced: its lease expired without a heartbeat",
        "with --kind process the agent keeps sending heartbeats",
    ):
        count = sum(agent.stderr.count(said) for agent in held.agents)
        row.expect(count == held.times, f"{count} of {held.times} times the log said: {said}")
    row.expect(longest_s <= held.lease_s + 2, f"recovered after {longest_s:.1f} s only")
    again = sum(each.crashes > 0 for each in fleet.results())
    row.expect(again >= held.times, f"{again} tasks ran again")
    row.remarks.append(f"for {held.hold_s} s, with a lease of {held.lease_s} s")
    row.remarks.append(f"recovered after at most {longest_s:.1f} s; {again:,} tasks ran again")
    row.remarks.append("the late settle is refused, and the log names `--kind process`")
    return row
