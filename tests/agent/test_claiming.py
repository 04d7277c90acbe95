"""How many tasks an agent claims, and when it hands them back."""

from __future__ import annotations

import threading
import time

from worker_agent.agent.agent import Agent


class QueueProbe:
    """A task function that records the length of its agent's queue while it runs."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.queued: list[int] = []

    def __call__(self, task):
        if self.agent is not None:
            self.queued.append(len(self.agent.in_flight.queue))
        time.sleep(task)
        return task


def test_short_tasks_are_claimed_by_the_hundred(bench):
    probe = QueueProbe()
    bench.serve([0] * 6_000)
    probe.agent = bench.agent(probe)

    bench.outcome()

    assert max(probe.queued) > 100


def test_slow_tasks_are_claimed_one_by_one(bench):
    probe = QueueProbe()
    bench.serve([0.06] * 8)
    probe.agent = bench.agent(probe)

    bench.outcome()

    assert set(probe.queued) == {0}


def test_the_concurrency_is_how_many_tasks_run_at_once(bench):
    together = threading.Barrier(8)

    def task_function(task):
        together.wait(20)
        return threading.current_thread().name

    outcome = bench.run(range(16), task_function, concurrency=8)

    assert len(set(outcome.values)) == 8


class Gate:
    """A task function that lets `shut` tasks wait until the gate is opened. Other tasks take 2 ms."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()

    def __call__(self, task):
        if task == "shut":
            self.reached.set()
            self.opened.wait(60)
        else:
            time.sleep(0.002)
        return task


def test_a_paused_agent_finishes_running_tasks_and_hands_back_queued_ones(bench, wait_until):
    gate = Gate()
    items = ["shut", *range(2_000)]
    bench.serve(items)
    agent = bench.agent(gate, concurrency=2)
    # One thread waits at the gate, and the other continues. So the queue is never empty for long.
    wait_until(lambda: gate.reached.is_set() and bench.claimed_by(agent) > 10)

    bench.commands.pause_one(0)

    wait_until(lambda: bench.claimed_by(agent) == 1)
    counters = bench.counters()
    assert counters.waiting > 0
    gate.opened.set()
    bench.wait_for(lambda counters: counters.claimed == 0)
    paused = bench.counters()
    assert paused.done == counters.done + 1
    bench.commands.start_one(0)
    outcome = bench.outcome()
    assert outcome.values == items
    assert {result.attempt for result in outcome.results} == {0}


def test_tasks_queued_behind_a_long_task_go_to_another_agent(bench):
    gate = Gate()
    items = [*range(100), "shut", *range(100)]
    bench.serve(items, devices=2)
    blocked = bench.agent(gate)
    bench.wait_for(lambda _: gate.reached.is_set())
    bench.agent(gate, device=1)

    bench.wait_for(lambda counters: counters.done == 200)

    assert bench.claimed_by(blocked) == 1
    gate.opened.set()
    assert bench.outcome().values == items


def test_a_waiting_agent_is_woken_by_new_tasks(bench):
    more = threading.Event()

    def items():
        yield "first"
        more.wait(60)
        yield from range(50)

    bench.serve(items())
    bench.agent(lambda task: task)
    bench.wait_for(lambda counters: counters.done == 1)
    more.set()

    assert bench.outcome().values == ["first", *range(50)]
