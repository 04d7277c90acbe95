"""Agents that serve several channels: every device helps every channel."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from tests.agent.bench import Bench
from tests.support.waiting import wait_until
from worker_agent import current_task


def finish(bench: Bench, channels: int, timeout: float = 30.0) -> None:
    """Wait until every channel is worked off and balanced."""

    def done() -> bool:
        views = bench.channels()
        assert all(view.balanced for view in views), views
        return all(view.exhausted and view.open == 0 for view in views)

    assert len(bench.channels()) == channels
    wait_until(done, timeout, what="all channels are worked off")


def let_next_task_have_crashed(bench: Bench, channel: int) -> None:
    """Count a crash of the channel's next task, as a recovery does."""
    waiting = bench.keys.channel(channel).waiting
    first = bench.client.lpop(waiting)
    assert isinstance(first, bytes)
    bench.client.lpush(waiting, first[:24] + b"1" + first[25:])


def test_one_agent_works_off_every_channel_with_the_functions_of_each(bench: Bench):
    bench.serve(range(300), range(200), range(100))
    bench.agent(
        function_of=lambda channel: lambda task: [channel, current_task().channel, task], concurrency=3
    )
    finish(bench, 3)
    for channel, count in enumerate((300, 200, 100)):
        values = bench.values(channel)
        assert sorted(values) == [[channel, channel, task] for task in range(count)]


def test_three_agents_work_off_many_channels(bench: Bench):
    bench.serve(*(range(5) for _ in range(60)), devices=3)
    for device in range(3):
        bench.agent(lambda task: task, device=device)
    finish(bench, 60)
    assert sum(view.done for view in bench.channels()) == 300


def test_a_device_helps_the_other_channel_when_its_own_is_finished(bench: Bench):
    """Both devices still run tasks of the long channel when the short one is over."""
    bench.serve(range(4), range(60), devices=2)
    devices: Counter[int] = Counter()

    def task_function(task: int) -> int:
        time.sleep(0.02)
        if current_task().channel == 1 and task > 30:
            devices[current_task().device] += 1
        return task

    for device in range(2):
        bench.agent(task_function, device=device)
    finish(bench, 2)
    assert set(devices) == {0, 1}


@pytest.mark.parametrize(("weights", "shares"), [((), (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25))])
def test_channels_get_their_share_of_an_agent(
    bench: Bench, weights: tuple[float, ...], shares: tuple[float, float]
):
    ran: list[int] = []

    def task_function(task: int) -> int:
        ran.append(current_task().channel)
        time.sleep(0.06)
        return task

    bench.serve(range(200), range(200))
    bench.agent(task_function, weights=weights)
    wait_until(lambda: len(ran) >= 40, 30, what="forty tasks have run")
    assert ran[:40].count(0) / 40 == pytest.approx(shares[0], abs=0.06)


def test_strict_runs_a_channel_only_while_those_before_it_are_empty(bench: Bench):
    ran: list[int] = []
    bench.serve(range(30), range(30), autostart=False)
    bench.agent(lambda task: ran.append(current_task().channel) or 1, served=(1, 0), strict=True)
    wait_until(lambda: all(view.waiting == 30 for view in bench.channels()), what="both channels are filled")
    bench.commands.start_all()
    finish(bench, 2)
    assert ran == [1] * 30 + [0] * 30


def test_an_idle_agent_is_woken_by_a_task_in_any_channel(bench: Bench):
    """Within half a second: a lost token alone would cost a second."""
    gates = [threading.Event() for _ in range(3)]

    def items(channel: int):
        gates[channel].wait(20)
        yield channel

    done: list[float] = []
    bench.serve(*(items(channel) for channel in range(3)))
    bench.agent(lambda task: done.append(time.monotonic()) or 1)
    for number, gate in enumerate((gates[2], gates[0], gates[1])):
        wait_until(lambda n=number: len(done) == n, what="the agent is idle")
        opened = time.monotonic()
        gate.set()
        wait_until(lambda n=number: len(done) == n + 1, what="the task has run")
        assert done[-1] - opened < 0.5
    finish(bench, 3)


def test_a_paused_channel_is_left_alone_and_the_others_go_on(bench: Bench):
    bench.serve(range(20), range(200), autostart=False)
    agent = bench.agent(lambda task: task)
    bench.commands.pause_channel(0)
    bench.commands.start_all()
    wait_until(lambda: bench.channels()[1].done == 200, what="the other channel is worked off")
    assert bench.channels()[0].done == 0
    calls = agent.state.session.actor.next_number()  # type: ignore[union-attr]
    time.sleep(1.2)
    assert agent.state.session.actor.next_number() - calls < 12  # type: ignore[union-attr]
    bench.commands.start_channel(0)
    finish(bench, 2)


def test_assign_changes_what_a_running_agent_serves(bench: Bench):
    gate = threading.Event()

    def task_function(task: int) -> int:
        gate.wait(20)
        return task

    bench.serve(range(100), range(100))
    agent = bench.agent(task_function)
    wait_until(lambda: agent.in_flight.running, what="a task runs")
    bench.commands.assign(0, (1,))
    wait_until(lambda: agent.state.channels == (1,), what="the agent follows")
    wait_until(
        lambda: not agent.in_flight.queue or all(e[4] == 1 for e in agent.in_flight.queue), what="back"
    )
    gate.set()
    wait_until(lambda: bench.channels()[1].done == 100, what="the assigned channel is worked off")
    time.sleep(0.3)
    assert bench.channels()[0].done <= 1
    bench.commands.assign(0, "all")
    finish(bench, 2)


def test_a_recovered_task_of_one_channel_runs_alone_in_an_agent_of_several(bench: Bench):
    alone: list[bool] = []
    running: Counter[str] = Counter()
    lock = threading.Lock()

    def task_function(task: int) -> int:
        crashed = current_task().crashes > 0
        with lock:
            running["now"] += 1
            if crashed:
                alone.append(running["now"] == 1)
        time.sleep(0.02)
        with lock:
            if crashed:
                alone.append(running["now"] == 1)
            running["now"] -= 1
        return task

    bench.serve(range(40), range(40), autostart=False)
    wait_until(lambda: all(view.waiting for view in bench.channels()), what="both channels are filled")
    let_next_task_have_crashed(bench, 1)
    bench.agent(task_function, concurrency=4)
    bench.commands.start_all()
    finish(bench, 2)
    assert alone == [True, True]


def test_a_recovered_task_is_not_starved_by_another_channel(bench: Bench):
    """Its slots never end at the same time by themselves: one of four tasks always runs."""
    ran: list[tuple[int, int]] = []

    def task_function(task: int) -> int:
        ran.append((current_task().channel, current_task().crashes))
        time.sleep(0.1 + 0.03 * (task % 5))
        return task

    bench.serve(range(3), range(400), autostart=False)
    wait_until(lambda: all(view.waiting for view in bench.channels()), what="both channels are filled")
    let_next_task_have_crashed(bench, 0)
    bench.agent(task_function, concurrency=4)
    bench.commands.start_all()
    wait_until(
        lambda: bench.channels()[0].done == 3, 20, what="the channel of the recovered task is worked off"
    )
    assert (0, 1) in ran
    assert len(ran) < 200


def test_a_stopped_agent_hands_back_to_each_channel(bench: Bench):
    gate = threading.Event()
    bench.serve(range(50), range(50))
    agent = bench.agent(lambda task: gate.wait(20) and task, concurrency=2)
    wait_until(lambda: len(agent.in_flight.running) == 2, what="two tasks run")
    agent.stop()
    agent.stop()
    gate.set()
    wait_until(lambda: all(view.claimed == 0 for view in bench.channels()), what="nothing is claimed")
    views = bench.channels()
    assert all(view.balanced for view in views)
    bench.agent(lambda task: task, device=1)
    finish(bench, 2)
