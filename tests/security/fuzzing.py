"""Valid, mutated and random inputs for the decoders. `MUTITASK_FUZZ` sets their number."""

from __future__ import annotations

import datetime as dt
import os
import struct
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from worker_agent.protocol import list_item, wire
from worker_agent.protocol.reasons import reason

LONG = os.environ.get("MUTITASK_FUZZ") == "long"
"""True for the long form: a million inputs in some minutes. The short form takes seconds."""
MUTANTS = 24 if LONG else 8
"""Mutations of each example. Hypothesis needs most of the time, so each of its examples is used several times."""


def budget(short: int, long: int) -> settings:
    """Return Hypothesis settings with this number of examples. A mutated example gives `MUTANTS` inputs."""
    return settings(
        max_examples=(long if LONG else short),
        deadline=None,
        database=None,
        derandomize=not LONG,
        suppress_health_check=list(HealthCheck),
    )


SEEDS: list[bytes] = [
    wire.pack(value)
    for value in (
        None, -1, 2**70, 1.5, "text", b"bytes", [1, [2, {"a": (1, 2)}]], {(1, 2): {3}, None: frozenset([4])},
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, microseconds=7))),
        dt.date(2024, 1, 1), dt.time(1, 2, 3, tzinfo=dt.UTC), dt.timedelta(days=1, microseconds=5),
        Decimal("1.10"), UUID(int=7), 1 + 2j, ((((1,),),),), {1, 2, 3},
        np.arange(6, dtype="<i4").reshape(2, 3), np.float32(1.5), np.array("2024-01-01", "M8[D]"),
        np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8", (2,))]), np.array(["aß", "z"]),
    )
]  # fmt: skip
ITEMS = [
    list_item.header("run12345", number, number % 4, number % 3) + body for number, body in enumerate(SEEDS)
]
ITEMS += [list_item.apart(item, "0123456789abcdef") for item in ITEMS[:4]]
ITEMS += [list_item.with_options(item, list_item.Options(30.5, 0, 60_000)) for item in (ITEMS[0], ITEMS[-1])]
RESULTS = [
    list_item.header("run12345", n) + wire.pack([n, 1_700_000_000_000, value])
    for n, value in enumerate(("x", [1, (2,)], None, np.arange(3)))
]
REASONS = [
    reason("run", ValueError("bad ä"), 3),
    reason("run", None, 0) + reason("save", OSError(5, "disk"), 0),
    reason("crashed", None, -1, message="it died"),
]
REPORTS = [
    b"1700000000000"
    + wire.pack({"host": "h", "pid": 7, "state": "running", "running": 1, "current": "t", "current_s": 1.5,
                 "done": 3, "failed": 0, "since_ms": 5, "version": "0.1", "python": "3.11", "channel": 0})
]  # fmt: skip
SCRAPS = [
    b"", b"\x00", b"\xff", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05", b"\xc7\xff\x05", b"\xd4\x05", b"\xd8\x09", b"\x91" * 40,
    b"\x81" * 40, b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", b"M1", b"9" * 30,
]  # fmt: skip


def mutations(seed: bytes, draw: st.DataObject) -> list[bytes]:
    """Return `MUTANTS` variants of a valid input: changed bits and bytes, removed, doubled and inserted pieces."""
    randomness = draw.draw(st.randoms(use_true_random=False))
    found = []
    for _ in range(MUTANTS):
        data = bytearray(seed)
        for _ in range(randomness.randint(1, 4)):
            at = randomness.randint(0, len(data))
            match randomness.randint(0, 6):
                case 0 if data:
                    data[min(at, len(data) - 1)] ^= 1 << randomness.randint(0, 7)
                case 1 if data:
                    data[min(at, len(data) - 1)] = randomness.randint(0, 255)
                case 2:
                    del data[at : at + randomness.randint(1, 8)]
                case 3:
                    data[at:at] = randomness.choice(SCRAPS)
                case 4:
                    data[at:at] = data[at : at + randomness.randint(1, 16)]
                case 5:
                    data[at : at + 4] = struct.pack(">I", randomness.choice((0, 1, 2**16, 2**31, 2**32 - 1)))
                case _:
                    other = randomness.choice(SEEDS)
                    data[at:] = other[randomness.randint(0, len(other)) :]
        found.append(bytes(data))
    return found


noise = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(SCRAPS), max_size=6).map(b"".join))
