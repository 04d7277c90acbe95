"""The short way for a page of results writes the same bytes as the long way for each of them."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any
from uuid import UUID

import msgpack
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutitask_tui.server import result_lines as module
from mutitask_tui.server.reader import parse_result
from mutitask_tui.server.result_lines import result_line, result_lines
from worker_agent.protocol import list_item, wire


def item(packed_value: bytes, number: int = 7) -> bytes:
    return list_item.header("Ab3dEf7h", number, 2, 1) + b"\x93\x03\xce\x00\x0f\x42\x40" + packed_value


def long_way(items: list[bytes]) -> str:
    return "".join(result_line(4, parse_result(4, each)) + "\n" for each in items)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["\x7f", "\u200b", "\ufe0f", "\U000e0100", "\n\r\x85\u2028", "\x1b[31m", module._MARK])
    | st.binary()
    | st.dates()
    | st.decimals()
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.none() | st.booleans() | st.floats() | st.binary() | st.integers(), inner)
        | st.sets(st.integers() | st.text(st.characters(exclude_categories=["Cs"])))
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=6))
def test_both_ways_give_the_same_lines(values: list[Any]) -> None:
    items = []
    for number, value in enumerate(values):
        try:
            items.append(item(wire.pack(value), number))
        except ValueError:
            continue
    assert result_lines(4, items) == long_way(items)


NESTED = 450
HARD = {
    "deep lists": b"\x91" * NESTED + b"\xc0",
    "deep dicts": b"\x81\xa1a" * NESTED + b"\xc0",
    "many lists": wire.pack([[] for _ in range(300)]),
    "a large text": wire.pack("x" * 10_000),
    "a large list of numbers": wire.pack(list(range(5_000))),
    "equal keys": b"\x82\xa1a\x01\xa1a\x02",
    "keys that become equal": wire.pack({1: "a", "1": "b"}),
    "keys that JSON writes otherwise": wire.pack([{None: 1}, {True: 2}, {math.nan: 3}, {b"x": 4}]),
    "such keys within a tuple": wire.pack(({None: 1}, {(1, 2): 3})),
    "an unknown extension": msgpack.packb(msgpack.ExtType(99, b"x")),
    "msgpack's own time": msgpack.packb(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), datetime=True),
    "a broken tuple": msgpack.packb(msgpack.ExtType(5, b"\xc1")),
    "invalid text": b"\xa2\xff\xfe",
    "an array": wire.pack(numpy.arange(6).reshape(2, 3)),
    "a number of numpy": wire.pack(numpy.float32(1.5)),
    "a large int": wire.pack(10**4_000),
    "too much": b"\xc0\xc0",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HARD)
def test_a_hard_value_changes_no_other_line_of_its_page(name: str) -> None:
    plain = [item(wire.pack({"a": number, "b": UUID(int=number)}), number) for number in range(3)]
    items = [plain[0], item(HARD[name]), *plain[1:]]
    assert result_lines(4, items) == long_way(items)
    assert [json.loads(line)["number"] for line in long_way(plain).splitlines()] == [0, 1, 2]


@pytest.mark.parametrize(
    "odd",
    [
        b"", b"hello", b"M1" + b"x" * 30, item(b"\xc0")[:25], item(b"\xc0")[:26],
        list_item.apart(item(wire.pack("x" * 5_000)), "r.a0-1"),
        list_item.header("Ab3dEf7h", 1) + wire.pack([True, 5, "a"]),
        list_item.header("Ab3dEf7h", 1) + wire.pack([1, 2.5, "a"]),
        list_item.header("Ab3dEf7h", 1) + wire.pack([1, 2]), list_item.header("Ab3dEf7h", 1) + wire.pack("ab"),
    ],
)  # fmt: skip
def test_an_item_that_is_no_result_is_shown_as_bytes(odd: bytes) -> None:
    items = [item(b"\xc3"), odd]
    assert result_lines(4, items) == long_way(items)
    assert "undecodable" in json.loads(result_lines(4, items).splitlines()[1])


@pytest.mark.parametrize("value", [["b", module._MARK, "c"], [[module._MARK]], module._BETWEEN, module._MARK])
@pytest.mark.parametrize("others", [0, 2])
def test_a_value_may_contain_the_mark_between_values(value: Any, others: int) -> None:
    items = [item(wire.pack(value))] + [item(wire.pack("c"))] * others
    assert result_lines(4, items) == long_way(items)
