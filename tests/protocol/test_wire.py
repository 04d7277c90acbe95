"""Values are unpacked equal and of the same type; other values are refused by type; untrusted bytes do no harm."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import math
import subprocess
import sys
import time
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.examples import examples
from tests.support.programs import environment
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import Unpackable


def same(one: Any, two: Any) -> bool:
    """Return whether two values are equal and of the same type at every level. NaN equals NaN."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == two.dtype and (one.tobytes() == two.tobytes() or bool(one == two))
    if isinstance(one, float):
        return repr(one) == repr(two)
    if isinstance(one, complex):
        return repr(one) == repr(two)
    if isinstance(one, Decimal):
        return str(one) == str(two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return (
            len(one) == len(two) and all(map(same, one, two)) and all(map(same, one.values(), two.values()))
        )
    if isinstance(one, set | frozenset):
        return one == two and sorted(map(_shown, one)) == sorted(map(_shown, two))
    if isinstance(one, dt.datetime | dt.time):
        zones = (one.tzinfo is two.tzinfo, type(one.tzinfo) is type(two.tzinfo))
        named = isinstance(one.tzinfo, zoneinfo.ZoneInfo)
        offsets = one.utcoffset() == two.utcoffset()
        return (
            one.replace(tzinfo=None) == two.replace(tzinfo=None)
            and one.fold == two.fold
            and zones[0 if named else 1]
            and offsets
        )
    return bool(one == two)


def _shown(value: Any) -> str:
    """Return a value and its type as text that does not depend on NaNs and on the order in sets."""
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(_shown, value))}"
    if isinstance(value, tuple):
        return f"tuple{list(map(_shown, value))}"
    return f"{type(value)} {value!r}"


def there_and_back(value: Any) -> Any:
    return wire.unpack(wire.pack(value))


# Values that can be packed

offsets = st.timedeltas(dt.timedelta(hours=-23, minutes=-59), dt.timedelta(hours=23, minutes=59))
fixed_zones = st.builds(dt.timezone, offsets)
named_zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Monrovia"]
).map(zoneinfo.ZoneInfo)
no_zone = st.none()

datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(), st.one_of(no_zone, fixed_zones, named_zones, st.just(dt.UTC)), st.integers(0, 1),
)  # fmt: skip
times = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.times(), st.one_of(no_zone, fixed_zones), st.integers(0, 1),
)  # fmt: skip
hashable_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**300), 2**300), st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=50), datetimes, st.dates(), times,
    st.timedeltas(), st.decimals(allow_nan=False), st.uuids(), st.complex_numbers(allow_nan=False),
)  # fmt: skip
scalars = st.one_of(
    hashable_scalars, st.floats(), st.decimals(), st.complex_numbers(),
    st.sampled_from([Decimal("sNaN"), Decimal("-NaN123"), Decimal("-Infinity"), Decimal("0E-50")]),
)  # fmt: skip
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=6,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=examples(250))
@given(values)
def test_every_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    back = there_and_back(value)
    assert same(back, value), f"{back!r} is not {value!r}"


EXAMPLES = [
    None, True, False, 0, "", b"", [], {}, 0.0, -0.0, math.inf, -math.inf, math.nan, (), set(), frozenset(),
    2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**1000, -(10**1000),
    "ä€😀\x00", {"a": {1: [(), ((1,),)]}, (1, (2,)): {3}, None: 1, 1.5: 2, b"k": 3},
    [(1, [2, (3,)])], {(1, 2), (3,)}, frozenset({frozenset({1}), frozenset()}),
    dt.date.min, dt.date.max, dt.datetime.min, dt.datetime.max, dt.time.min, dt.time.max,
    dt.timedelta.min, dt.timedelta.max, dt.timedelta(microseconds=-1),
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    dt.datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    dt.datetime(2024, 3, 31, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=53, seconds=28, microseconds=7))),
    dt.time(2, 30, fold=1), dt.time(23, tzinfo=dt.UTC),
    Decimal("1.10"), Decimal("NaN"), Decimal("sNaN"), Decimal("-sNaN7"), Decimal("Infinity"),
    Decimal("1E+999999"), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), complex("nan+infj"), complex(-0.0, -0.0),
]  # fmt: skip


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: repr(value)[:40])
def test_a_value_at_the_edge_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert same(there_and_back(value), value)
    assert same(there_and_back([value, {"key": (value,)}]), [value, {"key": (value,)}])


def test_a_bytearray_travels_as_bytes() -> None:
    assert same(there_and_back(bytearray(b"ab")), b"ab")


# numpy

DTYPES = [
    "?", "i1", "u1", "<i2", ">i2", "<u4", ">i8", "<f2", "<f4", ">f8", "<c8", "<c16", "S7", "<U5", ">U3", "V6",
    "<M8[ns]", "<M8[D]", ">M8[s]", "<m8[us]", "longdouble",
    [("a", "<i4"), ("b", "<f8", (2, 3)), ("c", [("d", "S3"), ("e", "<M8[s]")])],
]  # fmt: skip


def array_of(dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(dtype)
    count = math.prod(shape)
    raw = bytes(n % 2 if kind == "?" else n % 100 + 1 for n in range(kind.itemsize * count))
    if dtype == "longdouble":
        return (np.arange(count) / 7).astype(kind).reshape(shape)
    if kind.kind == "U":
        return np.array(["aß€", "z", ""] * count)[:count].astype(kind).reshape(shape)
    return np.frombuffer(raw, dtype=kind, count=count).reshape(shape) if count else np.empty(shape, kind)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (1, 1, 1, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[:12])
def test_an_array_comes_back_equal_with_its_dtype_and_shape(dtype: Any, shape: tuple[int, ...]) -> None:
    array = array_of(dtype, shape)
    back = there_and_back(array)
    assert same(back, array)
    assert back.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[:12])
def test_a_numpy_scalar_comes_back_as_one(dtype: Any) -> None:
    [scalar] = array_of(dtype, (1,))
    assert isinstance(scalar, np.generic)
    assert same(there_and_back(scalar), scalar)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.bool_(True),
        np.int8(-1),
        np.str_("ab"),
        np.str_(""),
        np.bytes_(b""),
        np.datetime64("NaT"),
    ],
    ids=repr,
)
def test_a_numpy_scalar_that_is_also_a_python_value_stays_what_it_is(scalar: Any) -> None:
    assert same(there_and_back(scalar), scalar)


def test_arrays_laid_out_otherwise_come_back_equal() -> None:
    base = np.arange(24, dtype="<i4").reshape(4, 6)
    for array in (
        base[::2, ::3],
        base.T,
        np.asfortranarray(base),
        base[::-1],
        np.broadcast_to(base[0], (3, 6)),
    ):
        back = there_and_back(array)
        assert back.dtype == array.dtype and np.array_equal(back, array)


def test_a_structured_dtype_with_gaps_comes_back_with_its_fields() -> None:
    dtype = np.dtype([("a", "i1"), ("b", "<f8")], align=True)
    array = np.zeros(3, dtype)
    array["a"], array["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    back = there_and_back(array)
    assert back.dtype.names == ("a", "b")
    assert same(back["a"].copy(), array["a"].copy()) and same(back["b"].copy(), array["b"].copy())


def test_arrays_travel_inside_of_other_values() -> None:
    value = {"x": [np.arange(3), (np.float32(1.5), {"y": np.array("2024-01-01", "M8[D]")})]}
    assert same(there_and_back(value), value)


def test_without_numpy_everything_else_travels_and_an_array_says_what_is_missing() -> None:
    packed = wire.pack(np.arange(3))
    program = f"""
import sys
sys.modules["numpy"] = None
from worker_agent.protocol import list_item, wire
value = {{"a": (1, {{2}}, 2**70)}}
assert wire.unpack(wire.pack(value)) == value
try:
    wire.unpack({packed!r})
except wire.Undecodable as error:
    print(error)
try:
    wire.pack(object())
except Exception as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
        timeout=30,
    )
    first, second = done.stdout.splitlines()
    assert first == "a numpy array, and numpy is not installed here"
    assert second == "a value of type object, which msgpack cannot carry"


def test_the_wire_does_not_import_numpy_by_itself() -> None:
    program = (
        "import sys; from worker_agent.protocol import wire; wire.pack((1,)); print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
        timeout=30,
    )
    assert done.stdout == "False\n"


# Values that cannot be packed


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    __slots__ = ()


class Numbers(list):  # type: ignore[type-arg]
    pass


class Colour(enum.IntEnum):
    RED = 1


class Zone(dt.tzinfo):
    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, _: Any) -> None:
        return None


def recursion() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED = [
    (lambda: 0, "function"),
    (object(), "object"),
    (Point(1, 2), "Point"),
    (Text("x"), "Text"),
    (Numbers([1]), "Numbers"),
    (Colour.RED, "Colour"),
    (collections.OrderedDict(a=1), "OrderedDict"),
    (collections.Counter("a"), "Counter"),
    ((n for n in range(3)), "generator"),
    (range(3), "range"),
    (sys, "module"),
    (ValueError("x"), "ValueError"),
    (open, "builtin_function"),
    (np.array([object()]), "numpy array of Python objects"),
    (np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), "numpy array of Python objects"),
    (np.ma.masked_array([1], [True]), "MaskedArray"),
    (np.arange(3).view(np.recarray), "recarray"),
    (dt.datetime(2024, 1, 1, tzinfo=Zone()), "datetime with a time zone of type Zone"),
    (dt.time(1, tzinfo=zoneinfo.ZoneInfo("UTC")), "time with a named time zone"),
    (recursion(), "list"),
    ("\ud800", "str"),
    (["fine", {"deep": "\udfff"}], "list"),
]


@pytest.mark.parametrize(("value", "name"), REFUSED, ids=[name[:20] for _, name in REFUSED])
def test_a_value_that_cannot_be_packed_is_refused_by_its_type(value: Any, name: str) -> None:
    with pytest.raises(Unpackable) as refused:
        wire.pack(value)
    assert name in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(Unpackable):
        wire.pack([(1, value)])


def nested(levels: int, wrap: Callable[[Any], Any], core: Any = "core") -> Any:
    for _ in range(levels):
        core = wrap(core)
    return core


def test_tuples_are_packed_32_deep_and_no_deeper() -> None:
    value = nested(32, lambda inner: (inner,))
    assert same(there_and_back(value), value)
    with pytest.raises(Unpackable, match="tuples or sets more than 32 deep"):
        wire.pack((value,))


def test_lists_may_be_deep_in_lists_and_thirty_deep_in_nested_tuples() -> None:
    deep = nested(500, lambda inner: [inner])
    assert wire.pack(there_and_back((deep,))) == wire.pack((deep,))
    thirty = nested(15, lambda inner: [{1: inner}])
    assert same(there_and_back((((thirty, 5),),)), (((thirty, 5),),))
    with pytest.raises(Unpackable, match="lists nested too deeply within tuples or sets"):
        wire.pack((((deep,),),))


def test_siblings_do_not_count_as_depth() -> None:
    value = [((n,),) for n in range(1_000)]
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(("lists", "outcome"), [(500, "refused"), (31, "travelled")])
def test_nested_lists_and_tuples_do_not_overflow_the_stack(lists: int, outcome: str) -> None:
    """Runs in a process of its own, in a thread with half the usual stack, because a failure would be a crash."""
    program = f"""
import threading
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import Unpackable
def nest():
    value = 0
    for tuples in range(wire.MAX_DEPTH):
        for _ in range(500 if tuples >= wire.MAX_DEPTH - 2 else {lists}):
            value = [value]
        value = (value,)
    try:
        packed = wire.pack(value)
    except Unpackable:
        print("refused")
    else:
        wire.unpack(packed)
        print("travelled")
threading.stack_size(4 << 20)
thread = threading.Thread(target=nest)
thread.start()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"{outcome}\n"), done.stderr[-500:]


# Untrusted bytes


def decodes_or_says_so(packed: bytes) -> None:
    try:
        wire.unpack(packed)
    except wire.Undecodable as error:
        assert str(error)


@settings(max_examples=examples(1_500))
@given(st.binary(max_size=60))
def test_random_bytes_are_a_value_or_undecodable(packed: bytes) -> None:
    decodes_or_says_so(packed)


ext_payloads = st.one_of(
    st.binary(max_size=40), scalars.map(wire.pack), st.lists(scalars, max_size=3).map(wire.pack)
)


@settings(max_examples=examples(800))
@given(st.integers(-128, 127), ext_payloads)
def test_random_extension_types_are_a_value_or_undecodable(code: int, payload: bytes) -> None:
    decodes_or_says_so(
        msgpack.packb(msgpack.ExtType(code, payload)) if code >= 0 else b"\xc7\x01\xff" + payload
    )


@settings(max_examples=examples(300))
@given(values.map(wire.pack), st.data())
def test_a_damaged_value_is_a_value_or_undecodable(packed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_says_so(bytes(damaged))
    decodes_or_says_so(packed[: data.draw(st.integers(0, len(packed)))])


arrays = st.tuples(
    st.one_of(
        st.sampled_from(["O", "|O", "T", "|T16", "V0", "S0", "<i4", "i4,O", "M8[ns]", "M8[1000000000000s]", "?"]),
        st.text(max_size=6),
        st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["O", "<i4", "V0"])).map(list), max_size=3),
        st.none(), st.integers(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    ),
    st.one_of(st.lists(st.integers(-3, 2**70), max_size=3), st.integers(), st.none(), st.just([2**40, 0])),
    st.one_of(st.binary(max_size=32), st.none(), st.text(max_size=8)),
)  # fmt: skip


@settings(max_examples=examples(600))
@given(st.sampled_from([13, 14]), arrays)
@pytest.mark.filterwarnings("ignore")
def test_an_untrusted_array_is_an_array_or_undecodable(code: int, parts: tuple[Any, Any, Any]) -> None:
    packed = msgpack.packb(msgpack.ExtType(code, wire.pack(list(parts))))
    try:
        found = wire.unpack(packed)
    except wire.Undecodable:
        return
    assert not np.asarray(found).dtype.hasobject


@settings(max_examples=examples(1_500))
@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda tail: b"M1abcdefgh000000000001" + tail))
def test_random_bytes_are_an_item_or_undecodable(item: bytes) -> None:
    try:
        found = list_item.parse(item)
    except wire.Undecodable:
        return
    assert list_item.header(found.run, found.number, found.attempt, found.crashes) + found.body == item
    assert found.id.encode() == item[2:22]


@pytest.mark.parametrize("held", [b"\xc1", b"\x93", b"\xa1x", b"\x80", b"\x91\x01", b"\x92\xa1x\x90"])
def test_a_claim_that_no_script_wrote_is_undecodable(held: bytes) -> None:
    with pytest.raises(wire.Undecodable):
        list_item.unpack_items(held)


@pytest.mark.parametrize(
    "header",
    [
        b"M1abcdefgh 00000000001000m", b"M1abcdefgh-00000000001000m", b"M1abcdefgh+00000000001000m",
        b"M1abcdefgh0_0000000001000m", b"M1abcdefgh000000000001 10m", b"M1abcdefgh000000000001-10m",
        b"M1abcdefgh000000000001000x", b"M1abcdef\xc3\xa4000000000001000m", b"M1abcdefgh000000000001000",
        b"m1abcdefgh000000000001000m",
    ],
)  # fmt: skip
def test_a_header_that_lua_refuses_is_refused_by_python_too(header: bytes) -> None:
    with pytest.raises(wire.Undecodable, match="no valid header"):
        list_item.parse(header + b"\xc0")


def test_an_item_is_parsed_back_to_what_it_was() -> None:
    item = list_item.parse(list_item.header("run0ID99", 123_456_789_012, 98, 9) + b"body\x00")
    expected = list_item.Item("run0ID99", 123_456_789_012, 98, 9, b"body\x00")
    assert item == expected and item.id == "run0ID99123456789012"


def nested_extensions(depth: int, code: int) -> bytes:
    packed = msgpack.packb([])
    for _ in range(depth):
        packed = msgpack.packb(msgpack.ExtType(code, packed))
    return packed


BOMBS = {
    "lists": b"\x91" * 1_000_000 + b"\xc0",
    "maps": b"\x81\x01" * 500_000 + b"\xc0",
    "tuples": nested_extensions(5_000, 5),
    "sets": nested_extensions(5_000, 7),
    "arrays of arrays": nested_extensions(5_000, 13),
    "a list of four thousand million": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
    "a map of four thousand million": b"\xdf\xff\xff\xff\xff" + b"\xc0" * 100,
    "a text of four gigabytes": b"\xdb\xff\xff\xff\xff" + b"x" * 100,
    "a long number as text": msgpack.packb(msgpack.ExtType(8, b"9" * 1_000_000)),
    "a huge exponent": msgpack.packb(msgpack.ExtType(6, msgpack.packb([msgpack.ExtType(8, b"1e999999999")]))),
    "a huge array of nothing": msgpack.packb(msgpack.ExtType(13, msgpack.packb(["<i8", [2**50], b""]))),
    "a dtype of gigabytes": msgpack.packb(msgpack.ExtType(13, msgpack.packb(["V2000000000", [1], b""]))),
    "many tuples": msgpack.packb([msgpack.ExtType(5, b"\x90")] * 100_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_defused_in_bounded_time(bomb: str) -> None:
    began = time.process_time()
    decodes_or_says_so(BOMBS[bomb])
    assert time.process_time() - began < 2.0


def test_nothing_is_imported_or_called_by_what_is_unpacked() -> None:
    before = set(sys.modules)
    for code in range(128):
        decodes_or_says_so(msgpack.packb(msgpack.ExtType(code, b"cos\nsystem\n(S'true'\ntR.")))
    assert set(sys.modules) == before
