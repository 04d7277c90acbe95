"""Small inputs that would need much memory, time or stack are refused. A child process enforces the limits."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from mutitask_tui.server.exports import failed_line
from mutitask_tui.server.inspector import result_view, waiting_task
from mutitask_tui.server.reader import parse_failed, parse_result
from mutitask_tui.server.result_lines import result_line
from mutitask_tui.server.snapshot_parser import server_view
from tests.support.programs import environment
from worker_agent.execution.in_flight import text_of
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.errors import Unpackable
from worker_agent.protocol.reasons import read_reasons

MIB = 1024 * 1024


def tuples(depth: int, inside: bytes) -> bytes:
    """Return the bytes of nested tuples around any content, without the limits of the packer."""
    for _ in range(depth):
        inside = struct.pack(">BIb", 0xC9, len(inside) + 1, 5) + b"\x91" + inside
    return inside


def announced(count: int, size: int) -> bytes:
    """Return `size` bytes of nested lists. Each list announces `count` elements."""
    return (b"\xdd" + struct.pack(">I", count)) * (size // 5)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a list of 4 billion announced": lambda: b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion announced": lambda: b"\xdf\xff\xff\xff\xff",
    "text of 4 GB announced": lambda: b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GB announced": lambda: b"\xc6\xff\xff\xff\xff",
    "an extension of 4 GB announced": lambda: b"\xc9\xff\xff\xff\xff\x05",
    "lists that announce as much as there are bytes, 500 deep": lambda: (
        announced(MIB, 2500) + b"\xc0" * (MIB - 2500)
    ),
    "the same in 16 MiB": lambda: announced(16 * MIB, 2500) + b"\xc0" * (16 * MIB - 2500),
    "the same in tuples": lambda: tuples(30, announced(MIB, 2500) + b"\xc0" * (MIB - 2500)),
    "the same, small": lambda: announced(4_000, 2500) + b"\xc0" * 1500,
    "lists in lists": lambda: b"\x91" * 10 * MIB,
    "maps in maps": lambda: b"\x81\xc0" * 5 * MIB,
    "maps as keys": lambda: b"\x81" * MIB,
    "tuples in tuples": lambda: tuples(2_000, b"\xc0"),
    "tuples of 500 lists each": lambda: tuples(32, b"\x91" * 500 + b"\xc0"),
    "48 MiB in 32 tuples": lambda: tuples(32, wire.pack(bytes(48 * MIB))),
    "an array of 2**62 elements": lambda: msgpack.packb(
        msgpack.ExtType(13, msgpack.packb(["<i8", [2**31, 2**31], b""]))
    ),
    "an array of items of 2 GB": lambda: msgpack.packb(
        msgpack.ExtType(13, msgpack.packb(["V2147483647", [1], b""]))
    ),
    "an array of nothing, many times": lambda: msgpack.packb(
        msgpack.ExtType(13, msgpack.packb(["V0", [2**40], b""]))
    ),
    "a dtype in dtypes": lambda: msgpack.packb(
        msgpack.ExtType(13, msgpack.packb([nested_dtype(300), [1], b"12345678"]))
    ),
    "an int of 40 million digits": lambda: msgpack.packb(msgpack.ExtType(11, b"\x7f" * 16 * MIB)),
    "a decimal of a million digits in the exponent": lambda: msgpack.packb(
        msgpack.ExtType(8, b"1E+" + b"9" * MIB)
    ),
    "a date of a million digits": lambda: msgpack.packb(msgpack.ExtType(2, b"2" * MIB)),
}


def nested_dtype(depth: int) -> Any:
    """Return a structured dtype that is nested `depth` times."""
    inner: Any = "<i8"
    for _ in range(depth):
        inner = [["a", inner]]
    return inner


HARMLESS = ("an array of nothing, many times", "tuples of 500 lists each", "a dtype in dtypes")
"""Inputs that need so little that reading them is allowed."""

READ = """
import resource, sys, time
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.reasons import read_reasons
import numpy, msgpack
data = sys.stdin.buffer.read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
began = time.process_time()
for decode in (wire.unpack, read_reasons):
    try:
        decode(data)
    except wire.Undecodable as error:
        assert "MemoryError" not in str(error), error
        print("refused:", str(error)[:100])
assert time.process_time() - began < 5, time.process_time() - began
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory_or_time(name: str) -> None:
    bomb = BOMBS[name]()
    bound = 64 * MIB + 14 * len(bomb)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(bound)],
        input=bomb, capture_output=True, env=environment(), timeout=25,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-600:]
    assert done.stdout.startswith(b"refused: ") or name in HARMLESS, done.stdout


def test_announced_and_missing_data_takes_no_memory() -> None:
    """Python counts the memory here. A list of 1 MiB would announce 4 GB over all levels."""
    for bomb in (
        BOMBS["lists that announce as much as there are bytes, 500 deep"](),
        BOMBS["the same, small"](),
    ):
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(wire.Undecodable):
            wire.unpack(bomb)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20 * MIB, peak
        assert time.process_time() - began < 2


def test_large_valid_values_are_packed_and_unpacked() -> None:
    for value in (bytes(60 * MIB), [list(range(1000))] * 200, (bytes(40 * MIB),), ((1, "x" * 30 * MIB),)):
        assert wire.unpack(wire.pack(value)) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (10**4300, r"an int of more than 4,299 digits"),
        (-(10**9000), r"an int of more than 4,299 digits"),
        (((((bytes(40 * MIB),),),),), r"[\d,]+ bytes within tuples, sets or arrays 4 deep"),
    ],
    ids=["int", "negative int", "tuples"],
)
def test_values_that_could_not_be_unpacked_are_not_packed(value: Any, says: str) -> None:
    with pytest.raises(Unpackable, match=says):
        wire.pack(value)


def test_the_largest_int_that_can_be_packed_can_be_shown() -> None:
    largest = 2 ** (8 * wire.MAX_INT_BYTES - 1) - 1
    assert wire.unpack(wire.pack(largest)) == largest
    assert wire.unpack(wire.pack(-largest)) == -largest
    assert len(str(largest)) == 4_299


def test_invalid_reasons_are_left_out() -> None:
    good = msgpack.packb({"at": 5, "device": 1, "message": "first"})
    for bad in (
        msgpack.packb({"at": float("inf")}), msgpack.packb({"at": "9" * 5000}), msgpack.packb([1]),
        b"\xdd\xff\xff\xff\xff", msgpack.packb({"at": msgpack.ExtType(8, b"1E+999999999")}),
        bytes(65 * MIB), b"\x91" * 2_000, good[:-1],
    ):  # fmt: skip
        assert [reason.message for reason in read_reasons(good + bad)] in (["first"], [])


@pytest.mark.parametrize("dtype", ["<U2", [["a", "<U2"]]])
def test_an_array_of_invalid_text_is_refused(dtype: Any) -> None:
    raw = b"a\x00\x00\x00\xdf\x00\x00\x7a"
    packed = msgpack.packb(msgpack.ExtType(13, msgpack.packb([dtype, [1], raw])))
    with pytest.raises(wire.Undecodable):
        wire.unpack(packed)


# Values that can be packed and are hard to show


def chain(levels: int, lists: int) -> bytes:
    """Return the bytes of lists in a tuple, in lists in a tuple, and so on."""
    inside = b"\xc0"
    for _ in range(levels):
        inside = tuples(1, b"\x91" * lists + inside)
    return inside


HARD = {
    "a large int": wire.pack(2 ** (8 * wire.MAX_INT_BYTES - 1) - 1),
    "a decimal as large as a universe": wire.pack([wire._decode(8, b"1E+999999", 1)]),
    "lists in lists": b"\x91" * 400 + b"\xc0",
    "lists in tuples in lists": chain(5, 300),
}
SHOWING: dict[str, Callable[[bytes], Any]] = {
    "failed": lambda body: parse_failed(0, "id", 5, list_item.header("run12345", 1) + body, b"").view.task,
    "failed as a line": lambda body: failed_line(
        parse_failed(0, "id", 5, list_item.header("run12345", 1) + body, b"")
    ),
    "waiting": lambda body: waiting_task(list_item.header("run12345", 1) + body),
    "result": lambda body: result_view(
        parse_result(0, list_item.header("run12345", 1) + b"\x93\x01\x05" + body)
    ),
    "result as a line": lambda body: result_line(
        0, parse_result(0, list_item.header("run12345", 1) + b"\x93\x01\x05" + body)
    ),
    "current task": lambda body: text_of(list_item.header("run12345", 1) + body),
}


@pytest.mark.parametrize("value", [value for value in HARD if value != "lists in tuples in lists"])
@pytest.mark.parametrize("place", SHOWING)
def test_a_value_that_is_hard_to_show_raises_no_error(place: str, value: str) -> None:
    SHOWING[place](HARD[value])


@pytest.mark.parametrize("place", SHOWING)
def test_a_value_nested_more_than_a_thousand_deep_raises_no_error(place: str) -> None:
    SHOWING[place](HARD["lists in tuples in lists"])


def test_a_result_whose_device_is_infinite_is_shown_as_bytes() -> None:
    odd = list_item.header("run12345", 1) + msgpack.packb([float("inf"), 5, "x"])
    assert isinstance(parse_result(0, odd), bytes)


def test_a_result_whose_device_has_a_billion_digits_is_shown_as_bytes() -> None:
    odd = list_item.header("run12345", 1) + msgpack.packb([msgpack.ExtType(8, b"1E+999999999"), 5, "x"])
    assert isinstance(parse_result(0, odd), bytes)


def test_a_server_record_whose_pid_is_infinite_is_unknown() -> None:
    record = msgpack.packb({"host": "h", "pid": float("inf"), "since_ms": 5})
    assert server_view({b"server": b"s", b"server_record": record}, {b"s": b"9e15"}, 5, {}) is not None
