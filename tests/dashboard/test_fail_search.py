"""Searches and groups over all failed tasks: progress, stopping, and what changes meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from mutitask_tui.dashboard.model.fail_search import KEPT, FailSearch, fail_of
from mutitask_tui.dashboard.screens import fail_walks
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.main import MainScreen
from tests.dashboard.conftest import Opened, poll, press, screen_text, settle
from tests.dashboard.fake_backend import FakeBackend, channel, fail
from tests.dashboard.test_fails import listed


class Gate:
    """Holds a walk before a page until it is opened."""

    def __init__(self, backend: FakeBackend, page: int) -> None:
        self.reached, self._open, self._page = threading.Event(), threading.Event(), page
        backend.on_page = self._wait

    def _wait(self, number: int) -> None:
        if number == self._page:
            self.reached.set()
            assert self._open.wait(20)

    def open(self) -> None:
        """Let the walk continue."""
        self._open.set()


@pytest.fixture
def many(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """A backend with 2,000 failed tasks in 4 pages. Every tenth is odd; a walk tells its progress at each page."""
    monkeypatch.setattr(fail_walks, "_TELL_S", 0.0)
    backend.fails = tuple(fail(n, error="odd" if n % 10 == 0 else "common") for n in range(2_000))
    backend.change(channels=(channel(0, failed=2_000),))
    return backend


@pytest.fixture
def gate(many: FakeBackend) -> Iterator[Gate]:
    """Holds each walk before its third page."""
    held = Gate(many, 2)
    yield held
    held.open()


async def until(pilot: Pilot[Any], true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + 20
    while not true():
        assert time.monotonic() < limit
        await pilot.pause(0.01)


async def typed(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys without waiting for the walk that they start."""
    await pilot.press(*keys)
    await pilot.pause()


async def test_matches_and_progress_appear_while_the_search_runs(
    opened: Opened, many: FakeBackend, gate: Gate
) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "slash", *"odd", "enter")
        await until(pilot, lambda: "Searched 1,000 of 2,000" in screen_text(pilot))
        assert "Searched 1,000 of 2,000 (Esc stops it): 100 match /odd" in screen_text(pilot)
        assert listed(pilot) == list(range(0, 1000, 10))
        await typed(pilot, "end", "up")
        assert pilot.app.screen.selection.fail == (0, "r1-000980")  # type: ignore[attr-defined]
        gate.open()
        await settle(pilot)
        assert "200 match /odd" in screen_text(pilot)
        assert "earched" not in screen_text(pilot)
        assert listed(pilot) == list(range(0, 2000, 10))
        assert pilot.app.screen.selection.fail == (0, "r1-000980")  # type: ignore[attr-defined]


async def test_escape_stops_the_search_and_keeps_what_it_found(
    opened: Opened, many: FakeBackend, gate: Gate
) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "slash", *"odd", "enter")
        await until(pilot, lambda: "Searched 1,000" in screen_text(pilot))
        await typed(pilot, "escape")
        gate.open()
        await settle(pilot)
        assert "Searched 1,000 of 2,000 (stopped, F5 starts again): 100 match /odd" in screen_text(pilot)
        await press(pilot, "R")
        assert "100 failed tasks (match /odd, searched 1,000 of 2,000" in " ".join(screen_text(pilot).split())
        await press(pilot, "escape", "f5")
        assert "200 match /odd" in screen_text(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, FailsScreen)
        assert "match" not in screen_text(pilot)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, MainScreen)


async def test_another_text_stops_the_search_and_starts_its_own(
    opened: Opened, many: FakeBackend, gate: Gate
) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "slash", *"odd")
        await until(pilot, lambda: gate.reached.is_set())
        many.on_page = lambda _number: None
        await typed(pilot, *" bad_15")
        gate.open()
        await settle(pilot)
        assert listed(pilot) == [150, *range(1500, 1600, 10)]
        assert "11 match /odd bad_15" in screen_text(pilot)


async def test_a_search_ends_with_its_screen(opened: Opened, many: FakeBackend, gate: Gate) -> None:
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "slash", *"odd", "enter")
        await until(pilot, lambda: gate.reached.is_set())
        await typed(pilot, "backspace")
        pages: list[int] = []
        many.on_page = pages.append
        gate.open()
        await settle(pilot)
        assert pages == []


async def test_all_matches_are_acted_on_although_the_newest_thousand_are_listed(
    opened: Opened, many: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"common", "enter")
        assert "1,800 match /common, the newest 1,000 listed" in screen_text(pilot)
        await press(pilot, "end")
        assert "1,800 match /common, the newest 1,100 listed" in screen_text(pilot)
        assert listed(pilot)[-1] == [n for n in range(2_000) if n % 10][1_099]
        await press(pilot, "E")
        [(_, targets)] = many.asked
        assert targets == tuple(fail_of(task) for task in many.fails if task.error == "common")


async def test_tasks_that_fail_or_leave_after_the_search_change_its_matches(
    opened: Opened, many: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"odd", "enter", "down")
        reads = len(many.reads)
        new = (fail(-1, error="odd"), fail(-2, error="common"), fail(-3, error="odd"))
        many.fails = (*new, *(task for task in many.fails if task.number != 20))
        many.change(channels=(channel(0, failed=2_002),))
        await poll(pilot)
        assert listed(pilot)[:5] == [-3, -1, 0, 10, 30]
        assert "201 match /odd" in screen_text(pilot)
        assert pilot.app.screen.selection.fail == (0, "r1-000010")  # type: ignore[attr-defined]
        assert many.reads[reads:] == ["failed_by_id", "failed_pages"]


async def test_a_search_that_was_stopped_at_once_reads_nothing_when_tasks_fail(
    opened: Opened, many: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailsScreen, "TYPING_S", 20.0)
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "slash", *"odd", "enter", "escape")
        await settle(pilot)
        assert "Searched 0 of 2,000 (stopped, F5 starts again): 10 match /odd" in screen_text(pilot)
        many.change(channels=(channel(0, failed=2_001),))
        await poll(pilot)
        assert many.reads == ["history", "failed_by_id"]
        assert "10 match /odd" in screen_text(pilot)
        await press(pilot, "f5")
        assert "200 match /odd" in screen_text(pilot)


async def test_matches_that_are_not_listed_are_searched_again_after_tasks_have_left(
    opened: Opened, many: FakeBackend
) -> None:
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"common", "enter")
        assert "1,800 match /common" in screen_text(pilot)
        many.fails = tuple(task for task in many.fails if task.number < 1_700)
        many.change(channels=(channel(0, failed=1_700),))
        await poll(pilot)
        await until(pilot, lambda: "1,530 match /common, the newest 1,000 listed" in screen_text(pilot))
        await press(pilot, "E")
        [(_, targets)] = many.asked
        assert len(targets) == 1_530


async def test_groups_count_all_tasks_with_progress_and_can_be_stopped(
    opened: Opened, many: FakeBackend, gate: Gate
) -> None:
    many.fails = tuple(
        fail(task.number, error=task.error, traceback="", stage="timeout") for task in many.fails
    )
    async with opened() as pilot:
        await press(pilot, "F")
        await typed(pilot, "G")
        await until(pilot, lambda: "Counted 1,000 of 2,000" in screen_text(pilot))
        assert "Counted 1,000 of 2,000 (Esc stops it): 2 groups" in screen_text(pilot)
        assert "900 SyntaxError common" in screen_text(pilot)
        await typed(pilot, "escape")
        gate.open()
        await settle(pilot)
        assert "Counted 1,000 of 2,000 (stopped" in screen_text(pilot)
        await press(pilot, "f5")
        assert "ounted" not in screen_text(pilot)
        assert "1,800 SyntaxError common" in screen_text(pilot)
        await press(pilot, "down", "enter")
        assert "200 SyntaxError at odd" in screen_text(pilot)
        assert listed(pilot)[-1] == 1990


async def test_an_error_ends_the_search_and_is_shown(opened: Opened, many: FakeBackend) -> None:
    def break_down(number: int) -> None:
        if number == 2:
            raise RuntimeError("boom")

    many.on_page = break_down
    async with opened() as pilot:
        await press(pilot, "F", "slash", *"odd", "enter")
        assert "cannot read the failed tasks: boom" in screen_text(pilot)
        assert "Searched 1,000 of 2,000 (stopped, F5 starts again): 100 match /odd" in screen_text(pilot)


def test_known_matches_are_listed_until_the_search_has_passed_them() -> None:
    tasks = [fail(n) for n in range(30)]
    search = FailSearch("bad_1", None, [tasks[18], tasks[1], tasks[2], tasks[11]])
    assert [task.number for task in search.shown] == [1, 11, 18]
    assert list(search.all_keys) == [fail_of(tasks[n]) for n in (1, 11, 18)]
    search.add([tasks[1], tasks[10]], 13, tasks[0].failed_ms, tasks[12].failed_ms)
    assert [task.number for task in search.shown] == [1, 10, 18]
    search.end(whole=True)
    assert [task.number for task in search.shown] == [1, 10]


def test_the_keys_of_a_running_search_do_not_change_for_those_who_hold_them() -> None:
    search = FailSearch("bad")
    search.add([fail(n) for n in range(KEPT + 5)], KEPT + 5, 0, 0)
    before = search.all_keys
    search.add([fail(9_999)], KEPT + 6, 0, 0)
    assert (len(before), len(search.all_keys)) == (KEPT + 5, KEPT + 6)
    assert before[-1] == fail_of(fail(KEPT + 4)) == list(before)[-1]
    assert before != search.all_keys and search.all_keys == search.all_keys
    assert len(search.shown) == KEPT
    assert [at_ms for _, _, at_ms in search.unread(2)] == [fail(n).failed_ms for n in (KEPT, KEPT + 1)]


def test_ten_thousand_tasks_are_searched_within_a_second() -> None:
    tasks = [fail(n) for n in range(10_000)]
    started = time.process_time()
    search = FailSearch("bad_999")
    assert sum(map(search.fits, tasks)) == 11
    assert time.process_time() - started < 1.0
