"""The failed tasks: in pages, newest first, each with full details."""

from __future__ import annotations

import json
import re
from typing import Any

from textual.pilot import Pilot
from textual.widgets import TextArea

from mutitask_tui.dashboard.screens.confirm import ConfirmScreen
from mutitask_tui.dashboard.screens.fail_walks import PAGE_SIZE
from mutitask_tui.dashboard.screens.failed import FailedScreen
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.prompt import PromptScreen
from mutitask_tui.dashboard.widgets.fail_list import FailList, GroupList
from mutitask_tui.server.snapshot import FailedRun, FailedTask
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_backend import NOW_MS, FakeBackend, channel, detail, fail


async def test_the_detail_shows_error_payload_device_and_traceback(opened: Opened) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "down")
        text = screen_text(pilot)
        for part in (
            "SyntaxError: invalid syntax (bad_1.py",
            "data/bad_1.py",
            "Device1",
            "tree = ast.parse",
            "run 4",
        ):
            assert part in text


async def test_the_end_of_the_list_loads_the_next_page(opened: Opened, backend: FakeBackend) -> None:
    backend.fails = tuple(fail(n) for n in range(PAGE_SIZE + 20))
    async with opened() as pilot:
        await press(pilot, "F")
        fails = pilot.app.screen.query_one(FailList)
        assert len(fails.items) == PAGE_SIZE
        await press(pilot, "end")
        assert len(fails.items) == PAGE_SIZE + 20
        assert fails.cursor == (0, f"r1-{PAGE_SIZE - 1:06}")
        await press(pilot, "end")
        assert fails.cursor == (0, f"r1-{PAGE_SIZE + 19:06}")


async def test_the_cursor_stays_on_its_task_when_others_fail(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "down")
        backend.fails = (fail(90), fail(91), *backend.fails)
        backend.change(channels=(channel(0, failed=5),))
        await poll(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, FailsScreen)
        assert screen.selection.fail == (0, "r1-000001")
        assert [task.number for task in screen.query_one(FailList).items] == [0, 1, 2, 90, 91]


async def test_the_list_is_read_again_after_a_command(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        backend.fails = backend.fails[1:]
        await press(pilot, "r")
        assert len(pilot.app.screen.query_one(FailList).items) == 2
        assert backend.asked == [("reload_one_fail_task", (0, "r1-000000"))]


async def test_the_list_of_one_channel_and_reload_all_for_that_channel(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.fails = (*backend.fails, fail(7, channel=1))
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "right_square_bracket", "right_square_bracket")
        assert "Failed tasks of TaskChannel1: 1" in screen_text(pilot)
        await press(pilot, "R")
        assert "3 failed tasks of TaskChannel1" in screen_text(pilot)
        await press(pilot, "right", "enter")
        assert backend.asked == [("reload_all_fail_tasks", (1,))]


async def test_an_empty_list_says_that_no_task_has_failed(opened: Opened, backend: FakeBackend) -> None:
    backend.fails = ()
    async with opened() as pilot:
        await press(pilot, "F")
        assert "no task has failed" in screen_text(pilot)
        await press(pilot, "down", "enter", "escape")


async def test_a_read_error_is_shown(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        backend.error = RuntimeError("boom")
        await press(pilot, "F")
        assert "cannot read the failed tasks: boom" in screen_text(pilot)


def mixed() -> tuple[FailedTask, ...]:
    """Six failed tasks with two different errors."""
    return tuple(
        fail(n, error_type="ReadTimeout", error="no answer", traceback="", stage="timeout")
        if n % 2
        else fail(n)
        for n in range(6)
    )


def listed(pilot: Pilot[Any]) -> list[int]:
    """The numbers of the tasks that the list shows."""
    return [task.number for task in pilot.app.screen.query_one(FailList).items]


async def test_the_filter_searches_all_tasks_and_not_only_the_page_while_typing(
    opened: Opened, backend: FakeBackend
) -> None:
    backend.fails = tuple(
        fail(n, error="rare" if n == PAGE_SIZE + 50 else "common") for n in range(PAGE_SIZE + 100)
    )
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"rare")
        assert listed(pilot) == [PAGE_SIZE + 50]
        assert "1 match /rare" in screen_text(pilot)
        await press(pilot, "enter")
        assert pilot.app.screen.query_one(FailList).has_focus
        await press(pilot, "slash", *" !rare")
        assert listed(pilot) == []
        assert "nothing matches" in screen_text(pilot)
        await press(pilot, "escape")
        assert len(listed(pilot)) >= PAGE_SIZE
        assert isinstance(pilot.app.screen, FailsScreen)


async def test_marked_tasks_are_reloaded_or_deleted_and_lose_their_marks(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "space", "space", "r")
        assert backend.asked == [("reload_one_fail_task*", ((0, "r1-000000"), (0, "r1-000001")))]
        assert "marked" not in screen_text(pilot)
        backend.asked.clear()
        await press(pilot, "home", "asterisk", "x")
        assert "3 failed tasks: r1-000000 of TaskChannel0" in screen_text(pilot)
        assert backend.asked == []
        await press(pilot, "right", "enter")
        assert backend.asked == [("delete_one_fail_task*", tuple((0, f"r1-{n:06}") for n in range(3)))]


async def test_marks_stay_on_their_tasks_when_others_fail(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "down", "space")
        backend.fails = (fail(90), fail(91), *backend.fails)
        backend.change(channels=(channel(0, failed=5),))
        await poll(pilot)
        assert "1 marked" in screen_text(pilot)
        await press(pilot, "r")
        assert backend.asked == [("reload_one_fail_task*", ((0, "r1-000001"),))]


async def test_a_mark_disappears_with_its_task_or_its_channel(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "space", "space")
        backend.fails = backend.fails[1:]
        backend.change(channels=(channel(0, failed=2),))
        await poll(pilot)
        while "1 marked" not in screen_text(pilot):  # The page of failed tasks comes after the snapshot.
            await poll(pilot)
        await press(pilot, "right_square_bracket")
        assert "marked" not in screen_text(pilot)


async def test_hidden_marked_tasks_are_counted_and_need_confirmation(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "asterisk", "slash", *"bad_1", "enter")
        assert "3 marked (2 hidden)" in screen_text(pilot)
        await press(pilot, "r")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "2 of them hidden" in screen_text(pilot)
        assert backend.asked == []


async def test_upper_case_keys_act_on_the_filtered_tasks(opened: Opened, backend: FakeBackend) -> None:
    backend.fails = mixed()
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"timeout", "enter", "E")
        shown = tuple((0, f"r1-{n:06}") for n in (1, 3, 5))
        assert backend.asked == [("export_failed", shown)]
        assert "written to fails.jsonl" in screen_text(pilot)
        await press(pilot, "R")
        assert "3 failed tasks (match /timeout)" in screen_text(pilot)
        await press(pilot, "right", "enter")
        assert backend.asked[1:] == [("reload_one_fail_task*", shown)]


async def test_groups_and_the_tasks_of_a_group(opened: Opened, backend: FakeBackend) -> None:
    backend.fails = mixed()
    async with opened() as pilot:
        await press(pilot, "F", "G")
        text = screen_text(pilot)
        assert "in 2 groups" in text
        assert "SyntaxError stdlib_report.py:31 in task_function" in text
        assert "3 tasks, for example" in text
        await press(pilot, "down", "enter")
        assert listed(pilot) == [1, 3, 5]
        assert "3 ReadTimeout at no answer" in screen_text(pilot)
        await press(pilot, "R", "right", "enter")
        assert backend.asked == [("reload_one_fail_task*", tuple((0, f"r1-{n:06}") for n in (1, 3, 5)))]
        await press(pilot, "escape")
        assert pilot.app.screen.query_one(GroupList).has_focus
        await press(pilot, "G")
        assert len(listed(pilot)) == 6


async def test_groups_change_when_other_tasks_fail(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "G")
        backend.fails = (fail(7, error_type="KeyError"), *backend.fails)
        backend.change(channels=(channel(0, failed=4),))
        await poll(pilot)
        assert "KeyError" in screen_text(pilot)
        assert "in 2 groups" in screen_text(pilot)


async def test_a_key_for_one_task_asks_for_the_task_while_groups_are_shown(
    opened: Opened, backend: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "G", "r")
        assert isinstance(pilot.app.screen, PromptScreen)
        assert backend.asked == []


async def test_enter_shows_payload_runs_device_and_times(opened: Opened, backend: FakeBackend) -> None:
    task = backend.fails[0]
    payload = {"url": "https://example.org/[red]1", "depth": [1, 2, {"deep": None}]}
    runs = (
        FailedRun(NOW_MS - 9000, 2, "timeout", "TimeLimit", "30 s are over", ""),
        *detail(task).failed_runs[2:],
    )
    backend.details[task.id] = detail(task, payload=payload, failed_runs=runs, crashes=1)
    async with opened(size=(120, 60)) as pilot:
        await press(pilot, "F", "enter")
        assert isinstance(pilot.app.screen, FailedScreen)
        text = screen_text(pilot)
        for part in (
            '"url": "https://example.org/[red]1"',
            '"depth": list of 3',
            '"deep": None',
            "3 runs, newest first",
            "run 3  14:13:20 UTC  Device0  stage run",
            "the same error at the same place",
            "run 1  14:13:11 UTC  Device2  stage timeout",
            "TimeLimit: 30 s are over",
            "tree = ast.parse",
            "4, 1 crashed",
        ):
            assert part in text
        await press(pilot, "r")
        assert backend.asked == [("reload_one_fail_task", (0, task.id))]
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, FailsScreen)


async def test_each_run_shows_its_delay_and_the_task_why_it_was_given_up(
    opened: Opened, backend: FakeBackend
) -> None:
    task = backend.fails[0]
    runs = (
        FailedRun(NOW_MS - 70_000, 0, "run", "OSError", "away", "", delay_ms=2_500),
        FailedRun(NOW_MS - 60_000, 0, "run", "OSError", "away", "", delay_ms=60_000),
        FailedRun(NOW_MS - 900, 0, "run", "OSError", "away", "", given_up="no retries were left"),
    )
    backend.details[task.id] = detail(task, failed_runs=runs)
    async with opened(size=(120, 60)) as pilot:
        await press(pilot, "F", "enter")
        first, second, third = (
            line for line in reversed(screen_text(pilot).splitlines()) if "stage run" in line
        )
        assert "next run after 2.5s" in first and "next run after 1m 00s" in second
        assert "next run" not in third
        assert re.search("given up +no retries were left", screen_text(pilot))


async def test_a_task_that_no_longer_exists_is_reported(opened: Opened, backend: FakeBackend) -> None:
    backend.details[backend.fails[0].id] = None
    async with opened() as pilot:
        await press(pilot, "F", "enter")
        assert "it was reloaded or deleted" in screen_text(pilot)
        await press(pilot, "e")
        assert "is no longer there" in screen_text(pilot)


async def test_keys_on_the_screen_of_one_task_act_on_it_alone(opened: Opened, backend: FakeBackend) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "down", "enter", "E")
        assert backend.asked == [("export_failed", ((0, "r1-000001"),))]
        await press(pilot, "R")
        assert "1 failed task (this one alone)" in screen_text(pilot)


async def test_editing_starts_with_the_whole_payload_and_escapes_hidden_characters(
    opened: Opened, backend: FakeBackend
) -> None:
    task = backend.fails[0]
    payload = {"name": "日本\u202e", "long": "x" * 1000}
    backend.details[task.id] = detail(task, payload=payload)
    async with opened() as pilot:
        await press(pilot, "F", "e")
        text = pilot.app.screen.query_one(TextArea).text
        assert "日本\\u202e" in text
        assert json.loads(text) == payload
        await press(pilot, "f2")
        assert backend.asked == [("edit_fail_task", (0, task.id, payload))]


async def test_a_payload_that_json_cannot_express_is_reported(opened: Opened, backend: FakeBackend) -> None:
    task = backend.fails[0]
    backend.details[task.id] = detail(task, payload=(1, b"2"), json=None)
    async with opened() as pilot:
        await press(pilot, "F", "e")
        assert "JSON cannot represent this payload" in screen_text(pilot)
        assert pilot.app.screen.query_one(TextArea).text == ""
