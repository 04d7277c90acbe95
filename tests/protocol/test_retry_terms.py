"""Retry policies, rates and a task's options: what they accept, how they are stored, one sentence for a bad value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_agent.protocol import list_item
from worker_agent.protocol.channel_terms import (
    checked_policies,
    checked_rates,
    policy_fields,
    rate_fields,
)
from worker_agent.protocol.rate import Rate, decode_rate, parse_rate
from worker_agent.protocol.retry_policy import GiveUp, Retry, class_names
from worker_agent.protocol.task import Task


class Busy(Exception):
    class Full(Exception):
        pass


def local_class() -> type[Exception]:
    class Local(Exception):
        pass

    return Local


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "more times than the header holds": (
        lambda: Retry(times=99), "times of Retry must be a whole number from 0 to 98, not 99",
    ),
    "times below zero": (lambda: Retry(times=-1), "times of Retry must be a whole number from 0 to 98, not -1"),
    "times that are true": (lambda: Retry(times=True), "times of Retry must be a whole number from 0 to 98, not True"),
    "half a time": (lambda: Retry(times=2.5), "times of Retry must be a whole number from 0 to 98, not 2.5"),  # type: ignore[arg-type]
    "a delay below zero": (
        lambda: Retry(delay=-0.1), "delay of Retry must be a number from 0 to 604,800 seconds, not -0.1",
    ),
    "a delay as text": (
        lambda: Retry(delay="5"), "delay of Retry must be a number from 0 to 604,800 seconds, not '5'",  # type: ignore[arg-type]
    ),
    "a longest delay above a week": (
        lambda: Retry(max_delay=604_801), "max_delay of Retry must be a number from 0 to 604,800 seconds, not 604801",
    ),
    "a factor that shrinks": (lambda: Retry(factor=0.5), "factor of Retry must be a number from 1 to 1,000, not 0.5"),
    "an infinite factor": (lambda: Retry(factor=math.inf), "factor of Retry must be a number from 1 to 1,000, not inf"),
    "a jitter above one": (lambda: Retry(jitter=2), "jitter of Retry must be a number from 0 to 1, not 2"),
    "after nothing": (
        lambda: Retry(after=math.nan), "after of Retry must be a number from 0 to 604,800 seconds, not nan",
    ),
    "names instead of classes": (
        lambda: Retry(never="ValueError"),  # type: ignore[arg-type]
        "never of Retry must list classes of errors, such as never=(ValueError,), not 'ValueError'",
    ),
    "an error instead of its class": (
        lambda: Retry(only=[ValueError("x")]),  # type: ignore[list-item]
        "only of Retry must list classes of errors, such as only=(ValueError,), not ValueError('x')",
    ),
    "a class that is no error": (
        lambda: Retry(only=int),  # type: ignore[arg-type]
        "only of Retry must list classes of errors, such as only=(ValueError,), not <class 'int'>",
    ),
    "a class that agents cannot name": (
        lambda: Retry(never=local_class()),
        "never of Retry names local_class.<locals>.Local, a class that agents cannot find by its name: define it at "
        "the top level of a module",
    ),
    "a class whose name has a blank": (
        lambda: Retry(only=type("An Error", (Exception,), {})),
        "only of Retry names An Error, a class that agents cannot find by its name: define it at the top level of a "
        "module",
    ),
    "a timeout of nothing": (
        lambda: Task(1, timeout=0), "timeout of Task must be a number from 0.001 to 604,800 seconds, not 0",
    ),
    "retries below zero": (lambda: Task(1, retries=-1), "retries of Task must be a whole number from 0 to 98, not -1"),
    "a task's delay below zero": (
        lambda: Task(1, delay=-1), "delay of Task must be a number from 0 to 604,800 seconds, not -1",
    ),
    "a rate without a unit": (
        lambda: parse_rate("10"),
        "a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not '10'",
    ),
    "a rate per day": (
        lambda: parse_rate("10/d"),
        "a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not '10/d'",
    ),
    "a rate below zero": (
        lambda: parse_rate("-1/s"),
        "a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, not '-1/s'",
    ),
    "a rate of nothing": (lambda: parse_rate("0/s"), "a rate is at least 0.01/h, not '0/s'"),
    "too high a rate": (lambda: parse_rate("1000001/s"), "a rate is at most 1,000,000/s, not '1000001/s'"),
    "a number as a rate": (lambda: parse_rate(10), "a rate is text such as '10/s', not 10"),
    "rates that are a number": (
        lambda: checked_rates(5),
        "`rates` must be text such as '10/s', or a list with such a text or None for each channel, not 5",
    ),
    "policies that are a number": (
        lambda: checked_policies(3),
        "`retry` must be Retry(...), or a list with a Retry or None for each channel, not 3",
    ),
    "a list of numbers as policies": (
        lambda: checked_policies([3]),
        "`retry` must be Retry(...), or a list with a Retry or None for each channel, not [3]",
    ),
    "more policies than channels": (
        lambda: policy_fields((None, Retry(), None), 2, ()),
        "`retry` lists 3 entries for 2 channels: list one for each",
    ),
    "more rates than channels": (
        lambda: rate_fields((None, Rate(1, 1000)), 1), "`rates` lists 2 entries for 1 channel: list one for each",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_gets_one_sentence(name: str) -> None:
    make, sentence = BAD[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == sentence


def test_a_policy_is_stored_as_one_line() -> None:
    assert Retry().encode() == "3 0 2 600000 0.2 - -"
    policy = Retry(
        times=5, delay=1.5, factor=1.25, max_delay=60, jitter=0, only=(OSError, Busy), never=Busy.Full
    )
    assert policy.encode() == f"5 1500 1.25 60000 0 builtins:OSError,{__name__}:Busy {__name__}:Busy.Full"
    assert policy.encode([__name__]) == "5 1500 1.25 60000 0 builtins:OSError,:Busy :Busy.Full"


def test_the_longest_delay_never_shortens_the_first() -> None:
    assert Retry(delay=3_600).encode() == "3 3600000 2 3600000 0.2 - -"


def test_changed_values_replace_those_of_a_policy_and_leave_its_classes() -> None:
    policy = Retry(times=7, delay=4, never=ValueError)
    assert policy.changed(times=0, jitter=0.0).encode() == "0 4000 2 600000 0 - builtins:ValueError"
    assert policy.changed().encode() == policy.encode()
    with pytest.raises(ValueError, match="factor of Retry"):
        policy.changed(factor=0)


def test_a_policy_is_an_exception_with_a_message() -> None:
    assert isinstance(Retry(after=5), Exception) and Retry(after=5).after == 5
    assert str(Retry("busy")) == "busy" and str(GiveUp("404")) == "404"


def test_the_classes_of_an_error_are_named_from_its_own_to_exception() -> None:
    assert class_names(KeyError(1)) == "builtins:KeyError,builtins:LookupError,builtins:Exception"
    assert class_names(Busy.Full()).split(",")[0] == f"{__name__}:Busy.Full"
    assert class_names(KeyboardInterrupt()) == "builtins:KeyboardInterrupt"


def test_each_channel_has_the_policy_that_is_listed_for_it() -> None:
    assert policy_fields(None, 2, ()) == {"retry": "3 0 2 600000 0.2 - -"}
    assert policy_fields(Retry(times=1), 2, ()) == {"retry": "1 0 2 600000 0.2 - -"}
    fields = policy_fields((None, Retry(times=9)), 3, (), delay=1.0)
    assert fields == {"retry": "3 1000 2 600000 0.2 - -", "retry:1": "9 1000 2 600000 0.2 - -"}


def test_each_channel_has_the_rate_that_is_listed_for_it() -> None:
    assert rate_fields(None, 2) == {}
    assert rate_fields(checked_rates("10/s"), 2) == {"rate:0": "10 1000", "rate:1": "10 1000"}
    assert rate_fields(checked_rates([None, "90/min"]), 2) == {"rate:1": "90 60000"}


@pytest.mark.parametrize(
    ("text", "stored", "shown"),
    [
        ("10/s", "10 1000", "10/s"),
        ("0.5/s", "0.5 1000", "0.5/s"),
        (" 90 / min ", "90 60000", "90/min"),
        ("1000000/s", "1000000 1000", "1000000/s"),
        ("3600000000/h".replace("3600000000", "999999999"), "999999999 3600000", "999999999/h"),
        ("0.01/h", "0.01 3600000", "0.01/h"),
    ],
)
def test_a_rate_is_stored_and_shown(text: str, stored: str, shown: str) -> None:
    rate = parse_rate(text)
    assert rate.encode() == stored and str(rate) == shown
    assert decode_rate(stored.encode()) == rate and parse_rate(str(rate)) == rate


@given(st.binary(max_size=30))
def test_any_stored_bytes_are_a_rate_or_none(stored: bytes) -> None:
    rate = decode_rate(stored)
    assert rate is None or (rate.tasks > 0 and rate.period_ms > 0 and str(rate))


@pytest.mark.parametrize(
    "stored", [b"", b"x y", b"nan 1000", b"inf 1000", b"-1 1000", b"1 0", b"1", b"1 1e9"]
)
def test_what_is_no_rate_is_none(stored: bytes) -> None:
    assert decode_rate(stored) is None


def test_a_task_keeps_its_options_apart_from_its_payload() -> None:
    assert Task([1]).options == list_item.Options() and Task([1]).payload == [1]
    assert Task(1, timeout=30, retries=0, delay=0.25).options == list_item.Options(30.0, 0, 250)
    assert Task(1, delay=0).options == list_item.Options()
    assert repr(Task("a", retries=2, delay=60)) == "Task('a', retries=2, delay=60.0)"


@given(
    st.none() | st.floats(0.001, 604_800),
    st.none() | st.integers(0, 98),
    st.none() | st.floats(0, 604_800),
)
def test_options_survive_the_wire(timeout: float | None, retries: int | None, delay: float | None) -> None:
    options = Task(0, timeout=timeout, retries=retries, delay=delay).options
    item = list_item.with_options(list_item.header("Ab3dEf7h", 1) + b"\xc0", options)
    found = list_item.parse(item).options
    assert (found.retries, found.delay_ms) == (options.retries, options.delay_ms)
    assert found.timeout == (None if timeout is None else pytest.approx(timeout, abs=0.0006))
