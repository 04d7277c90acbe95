"""Wait until a condition is true, without guessing how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, *, every: float = 0.01, what: str | None = None
) -> T:
    """Call `predicate` until it returns a true value, and return that value. Fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        if answer := predicate():
            return answer
        if time.monotonic() >= end:
            name = what or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"not within {timeout:g} s: {name} (last answer: {answer!r})")
        time.sleep(every)
