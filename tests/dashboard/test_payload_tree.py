"""The payload tree: it loads lazily, has a size limit and shows no raw control characters."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from mutitask_tui.dashboard.widgets.payload_tree import PayloadTree
from tests.dashboard.conftest import screen_text
from tests.dashboard.hostile import TOGETHER
from tests.dashboard.test_hostile import check


class TreeApp(App[None]):
    """An app with only the tree."""

    def compose(self) -> ComposeResult:
        """The tree."""
        yield PayloadTree()


@asynccontextmanager
async def showing(payload: Any) -> AsyncIterator[tuple[Pilot[None], PayloadTree]]:
    """The tree with that payload."""
    async with TreeApp().run_test(size=(100, 40)) as pilot:
        tree = pilot.app.query_one(PayloadTree)
        tree.show_payload(payload)
        tree.focus()
        await pilot.pause()
        yield pilot, tree


async def test_scalars_lists_and_maps_are_shown() -> None:
    payload = {
        "a": 1,
        "b": [None, True, 2.5],
        3: {"deep": {"er": "x"}},
        "bytes": b"\x00ab",
        "at": datetime.date(2026, 1, 2),
        "set": {1},
        "pair": (1, 2),
        "none": {},
    }
    async with showing(payload) as (pilot, _):
        text = screen_text(pilot)
        for part in (
            "{8 keys}",
            '"a": 1',
            '"b": list of 3',
            "2.5",
            "3: {1 key}",
            '"er": "x"',
            r"b'\x00ab'  3 bytes",
            "datetime.date(2026, 1, 2)  date",
            "set of 1",
            "tuple of 2",
            '"none": {0 keys}',
        ):
            assert part in text, part


async def test_only_a_page_of_a_million_items_is_loaded() -> None:
    started = time.process_time()
    async with showing({"many": list(range(1_000_000)), "more": [0] * 1_000_000}) as (pilot, tree):
        assert time.process_time() - started < 5
        await pilot.press("down", "enter")
        await pilot.pause()
        many = tree.root.children[0]
        assert len(many.children) == 201
        assert "… 999,800 more: Enter" in str(many.children[-1].label)
        tree.move_cursor(many.children[-1])
        await pilot.press("enter")
        await pilot.pause()
        assert len(many.children) == 401
        assert [str(node.label) for node in many.children[199:202]] == ["199: 199", "200: 200", "201: 201"]


async def test_a_long_string_opens_into_its_lines() -> None:
    async with showing({"text": "first\nsecond\n" + "x" * 250}) as (pilot, tree):
        text = tree.root.children[0]
        assert "263 characters" in str(text.label)
        text.expand()
        await pilot.pause()
        assert [len(str(node.label)) for node in text.children] == [5, 6, 100, 100, 50]


async def test_another_payload_replaces_the_first() -> None:
    async with showing({"a": 1}) as (pilot, tree):
        tree.show_payload("b")
        await pilot.pause()
        assert '"b"' in screen_text(pilot)
        assert not tree.root.children


class Odd:
    """An object whose `repr` fails."""

    def __repr__(self) -> str:
        """Fail."""
        raise ValueError("no")


ODD = {"long": 10**5000, "odd": Odd(), "nan": float("nan"), "set": frozenset(), "bytes": b"", "text": ""}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_values_that_cannot_be_shown_break_nothing(odd: object) -> None:
    async with showing([odd]) as (pilot, _):
        check(pilot)
        assert "list of 1" in screen_text(pilot)


@pytest.mark.parametrize("payload", TOGETHER.values(), ids=TOGETHER)
async def test_hostile_payloads_in_every_place(payload: str) -> None:
    async with showing({payload: payload, "list": [payload, {payload: [payload]}]}) as (pilot, tree):
        check(pilot)
        for node in list(tree.root.children):
            node.expand()
        await pilot.pause()
        check(pilot)
    async with showing(payload) as (pilot, tree):
        tree.root.expand()
        await pilot.pause()
        check(pilot)
