"""Running tasks: their progress in the grid and on the device's screen, and the screen of one of them."""

from __future__ import annotations

import pytest

from mutitask_tui.dashboard.screens.device import AgentLog, DeviceScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.screens.task import TaskScreen
from mutitask_tui.dashboard.widgets.said_lines import SaidLines
from mutitask_tui.dashboard.widgets.task_list import TaskList
from mutitask_tui.server.snapshot import FailedRun, RunningDetail, RunningTask
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, detail, device, fail
from worker_agent.protocol.task_line import TaskLine


def task(number: int, seconds: float = 60.0, **changes: object) -> RunningTask:
    values = {"text": f"film-{number}.mp4", "seconds": seconds, "id": f"run00000{number:012d}", **changes}
    return RunningTask(**values)  # type: ignore[arg-type]


def line(number: int, second: int, text: str) -> TaskLine:
    return TaskLine(NOW_MS - 60_000 + second * 1000, 0, f"run00000{number:012d}", text)


LONG = task(7, done=12, total=48, note="frame 12", line="encoding")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_grid_shows_a_bar_for_a_long_task(
    opened: Opened, backend: FakeBackend, size: tuple[int, int]
) -> None:
    backend.change(devices=(device(0, current=LONG.text, current_s=60.0, tasks=(LONG,)), device(1)))
    async with opened(size=size) as pilot:
        assert "film-7.mp4" in screen_text(pilot) and "━━──── 25% 1m 00s" in screen_text(pilot)
        short = task(7, 1.5, done=12, total=48)
        backend.change(devices=(device(0, current=short.text, current_s=1.5, tasks=(short,)), device(1)))
        await poll(pilot)
        assert "━━──── 25%" not in screen_text(pilot)
        await press(pilot, "g")
        backend.change(devices=(device(0, current=LONG.text, current_s=60.0, tasks=(LONG,)), device(1)))
        await poll(pilot)
        assert "━─── 25%" in screen_text(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_device_screen_lists_running_tasks(
    opened: Opened, backend: FakeBackend, size: tuple[int, int]
) -> None:
    plain = task(8, 5.0, done=3)
    backend.change(devices=(device(0, running=30, tasks=(LONG, plain)),))
    async with opened(size=size) as pilot:
        await press(pilot, "enter")
        text = screen_text(pilot)
        for part in (
            "Tasks: 30 running, 28 of them not listed",
            "#7       1m 00s  ━━────────  25% 3 min left film-7.mp4",
            "frame 12  › encoding",
            "#8         5.0s  3 done film-8.mp4",
            "has printed nothing",
        ):
            assert part in text, part
        assert pilot.app.screen.query_one(TaskList).has_focus
        many = tuple(task(number, done=1, total=2, line=f"line {number}") for number in range(16))
        backend.change(devices=(device(0, running=16, tasks=many),))
        await poll(pilot)
        assert pilot.app.screen.query_one(TaskList).cursor == (0, LONG.id)
        assert "#7       1m 00s  ━━━━━─────  50% 1 min left film-7.mp4" in screen_text(pilot)
        assert "line 7" in screen_text(pilot) and "line 15" not in screen_text(pilot)
        backend.change(devices=(device(0, "paused"),))
        await poll(pilot)
        assert "Tasks: none runs" in screen_text(pilot)


async def test_lines_of_tasks_stand_among_the_log_by_their_times(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.log = ("2026-09-21 14:12:25Z INFO first", "2026-09-21 14:12:27Z ERROR last")
    backend.lines = (line(7, 6, "WARNING in between"), line(8, 60, "at the end"))
    async with opened() as pilot:
        await press(pilot, "enter")
        shown = pilot.app.screen.query_one(AgentLog).shown
        assert shown == (backend.log[0], backend.lines[0], backend.log[1], backend.lines[1])
        assert "14:12:26 ch0 #7 WARNING in between" in screen_text(pilot)
        await press(pilot, "slash", *"#8")
        assert pilot.app.screen.query_one(AgentLog).shown == (backend.lines[1],)


async def test_enter_opens_a_running_task_with_its_lines_as_they_come(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.change(devices=(device(0, running=2, tasks=(LONG, task(8))),))
    backend.running = RunningDetail({"film": "film-7.mp4", "frames": 48}, 33)
    backend.lines = (line(7, 1, "one"), line(8, 2, "of another task"))
    async with opened() as pilot:
        await press(pilot, "enter", "enter")
        assert isinstance(pilot.app.screen, TaskScreen)
        text = screen_text(pilot)
        for part in (
            "Task #7 of TaskChannel0 on Device0",
            "frames",
            "12 of 48, 25%",
            "frame 12",
            "for 1m 00s",
            "one",
        ):
            assert part in text, part
        lines = pilot.app.screen.query_one(SaidLines)
        assert lines.shown == (backend.lines[0],)
        backend.lines += (line(7, 3, "two"),)
        await poll(pilot)
        assert [each.text for each in lines.shown if isinstance(each, TaskLine)] == ["one", "two"]
        assert backend.reads.count("running_task") == 1
        backend.change(devices=(device(0),))
        await poll(pilot)
        assert "has ended" in screen_text(pilot) and len(lines.shown) == 2
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, DeviceScreen)


async def test_the_fail_inspector_shows_the_last_lines_of_each_run(
    opened: Opened, backend: FakeBackend
) -> None:
    one = fail(0)
    runs = tuple(
        FailedRun(NOW_MS, 0, "run", "ValueError", "no", "Traceback", lines=(f"said in run {n}", "[b]plain"))
        for n in (1, 2)
    )
    backend.details[one.id] = detail(one, failed_runs=runs)
    backend.fails = (fail(0, lines=("said beside the list",)),)
    async with opened(size=(120, 40)) as pilot:
        await press(pilot, "F")
        assert "said beside the list" in screen_text(pilot)
        await press(pilot, "enter")
        text = screen_text(pilot)
        assert text.index("Traceback") < text.index("said in run 2") < text.index("said in run 1")
        assert "the last 2 lines that it printed or logged" in text and "[b]plain" in text


async def test_the_key_cancels_the_task_under_the_cursor_after_a_yes(
    opened: Opened, backend: FakeBackend
) -> None:
    tasks = (LONG, task(8, 5.0, channel=1))
    backend.change(devices=(device(0, running=2, tasks=tasks),))
    async with opened() as pilot:
        await press(pilot, "enter", "down", "K")
        text = screen_text(pilot)
        assert f"cancel_task 1 {tasks[1].id}?" in text
        assert "task #8 of TaskChannel1 on Device0, for 5.0s: film-8.mp4" in text
        await press(pilot, "enter")
        assert backend.asked == [], "Cancel has the focus"
        await press(pilot, "K", "right", "enter")
        assert backend.asked == [("cancel_task", (1, tasks[1].id))]


async def test_the_key_cancels_the_task_whose_screen_is_open(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=(device(0, running=1, tasks=(LONG,)),))
    async with opened() as pilot:
        await press(pilot, "enter", "enter")
        assert isinstance(pilot.app.screen, TaskScreen)
        await press(pilot, "K", "right", "enter")
        assert backend.asked == [("cancel_task", (0, LONG.id))]


async def test_without_a_running_task_the_key_asks_which_one(opened: Opened, backend: FakeBackend) -> None:
    backend.change(devices=(device(0, "paused"),))
    async with opened() as pilot:
        await press(pilot, "enter", "K")
        assert isinstance(pilot.app.screen, PromptScreen)
