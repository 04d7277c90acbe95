"""How much an agent takes in hand, and when it gives it back."""

from __future__ import annotations

import threading
import time

from worker_agent.agent.agent import Agent


class Watched:
    """A task function that notes how many tasks are in its agent's hands, not begun, behind the one that runs."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.behind: list[int] = []

    def __call__(self, task):
        if self.agent is not None:
            self.behind.append(len(self.agent.in_flight.queue))
        time.sleep(task)
        return task


def test_short_tasks_are_claimed_by_the_hundred(bench):
    watched = Watched()
    bench.serve([0] * 6_000)
    watched.agent = bench.agent(watched)

    bench.outcome()

    assert max(watched.behind) > 100


def test_slow_tasks_are_claimed_one_by_one(bench):
    watched = Watched()
    bench.serve([0.06] * 8)
    watched.agent = bench.agent(watched)

    bench.outcome()

    assert set(watched.behind) == {0}


def test_as_many_tasks_run_at_once_as_were_asked_for(bench):
    together = threading.Barrier(8)

    def task_function(task):
        together.wait(20)
        return threading.current_thread().name

    outcome = bench.run(range(16), task_function, concurrency=8)

    assert len(set(outcome.values)) == 8


class Gate:
    """A task function that lets `shut` tasks wait until the gate is opened."""

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


def test_a_paused_agent_finishes_what_runs_and_hands_back_what_has_not_begun(bench, wait_until):
    gate = Gate()
    items = ["shut", *range(2_000)]
    bench.serve(items)
    agent = bench.agent(gate, concurrency=2)
    # One thread stands at the gate, the other goes on: so there is always something that has not begun.
    wait_until(lambda: gate.reached.is_set() and bench.claimed_by(agent) > 10)

    bench.commands.pause_one(0)

    wait_until(lambda: bench.claimed_by(agent) == 1)
    books = bench.books()
    assert books.waiting > 0
    gate.opened.set()
    bench.wait_for(lambda books: books.claimed == 0)
    paused = bench.books()
    assert paused.done == books.done + 1
    bench.commands.start_one(0)
    outcome = bench.outcome()
    assert outcome.values == items
    assert {result.attempt for result in outcome.results} == {0}


def test_what_waits_behind_a_long_task_goes_to_another_agent(bench):
    gate = Gate()
    items = [*range(100), "shut", *range(100)]
    bench.serve(items, devices=2)
    stuck = bench.agent(gate)
    bench.wait_for(lambda _: gate.reached.is_set())
    bench.agent(gate, device=1)

    bench.wait_for(lambda books: books.done == 200)

    assert bench.claimed_by(stuck) == 1
    gate.opened.set()
    assert bench.outcome().values == items


def test_tasks_that_come_later_are_begun_without_being_asked_for(bench):
    """A waiting agent is woken: it does not look now and then."""
    more = threading.Event()

    def items():
        yield "first"
        more.wait(60)
        yield from range(50)

    bench.serve(items())
    bench.agent(lambda task: task)
    bench.wait_for(lambda books: books.done == 1)
    more.set()

    assert bench.outcome().values == ["first", *range(50)]
