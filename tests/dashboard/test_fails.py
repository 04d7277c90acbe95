"""The failed tasks: paged, newest first, each with all that is known of it."""

from __future__ import annotations

from mutitask_tui.dashboard.screens.fails import PAGE, FailsScreen
from mutitask_tui.dashboard.widgets.fail_list import FailList
from tests.dashboard.conftest import Opened, poll, press, screen_text
from tests.dashboard.fake_link import FakeLink, channel, fail


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


async def test_the_end_of_the_list_brings_the_next_page(opened: Opened, link: FakeLink) -> None:
    link.fails = tuple(fail(n) for n in range(PAGE + 20))
    async with opened() as pilot:
        await press(pilot, "F")
        fails = pilot.app.screen.query_one(FailList)
        assert len(fails.items) == PAGE
        await press(pilot, "end")
        assert len(fails.items) == PAGE + 20
        assert fails.cursor == (0, f"r1-{PAGE - 1:06}")
        await press(pilot, "end")
        assert fails.cursor == (0, f"r1-{PAGE + 19:06}")


async def test_the_cursor_stays_on_its_task_when_others_fail(opened: Opened, link: FakeLink) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "down")
        link.fails = (fail(90), fail(91), *link.fails)
        link.change(channels=(channel(0, failed=5),))
        await poll(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, FailsScreen)
        assert screen.selection.fail == (0, "r1-000001")
        assert [task.number for task in screen.query_one(FailList).items] == [90, 91, 0, 1, 2]


async def test_an_act_is_followed_by_a_look(opened: Opened, link: FakeLink) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        link.fails = link.fails[1:]
        await press(pilot, "r")
        assert len(pilot.app.screen.query_one(FailList).items) == 2
        assert link.asked == [("reload_one_fail_task", (0, "r1-000000"))]


async def test_one_channels_fails_alone_and_reload_all_means_that_channel(
    opened: Opened, link: FakeLink
) -> None:
    link.fails = (*link.fails, fail(7, channel=1))
    async with opened() as pilot:
        await press(pilot, "F")
        await press(pilot, "right_square_bracket", "right_square_bracket")
        assert "Failed tasks of TaskChannel1: 1" in screen_text(pilot)
        await press(pilot, "R")
        assert "3 failed tasks of TaskChannel1" in screen_text(pilot)
        await press(pilot, "right", "enter")
        assert link.asked == [("reload_all_fail_tasks", (1,))]


async def test_no_failed_task_is_said(opened: Opened, link: FakeLink) -> None:
    link.fails = ()
    async with opened() as pilot:
        await press(pilot, "F")
        assert "no task has failed" in screen_text(pilot)
        await press(pilot, "down", "enter", "escape")


async def test_a_list_that_cannot_be_read_is_said(opened: Opened, link: FakeLink) -> None:
    async with opened() as pilot:
        link.error = RuntimeError("boom")
        await press(pilot, "F")
        assert "could not be read: boom" in screen_text(pilot)
