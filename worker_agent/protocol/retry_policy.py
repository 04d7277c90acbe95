"""Retry policies: which failed tasks run again, how often and when; and the exceptions that overrule them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NoReturn

MAX_TIMES = 98
"""The most retries of a task: an item's header has two digits for the attempt."""
MAX_DELAY_S = 7 * 86_400.0
"""The longest delay, in seconds."""


class Retry(Exception):
    """A retry policy in the job file, and an exception with which a task asks for another run.

    As a policy, `Retry(times=5, delay=2)`: a failed task runs again up to `times` times. The first delay is `delay`
    seconds. Each further one is `factor` times as long, up to `max_delay` seconds. `jitter` lengthens or shortens a delay
    by up to that part of it. `only` are the classes of errors that are retried, and `never` those that are not.
    Without a delay, the task goes to the front of its channel.

    Raised in a task, `raise Retry("busy", after=30)`: the task runs again after 30 seconds, or after the policy's delay
    without `after`, whatever the policy says of the error. That uses up a retry.

    Raises `ValueError` or `TypeError` with one sentence about a bad value.
    """

    def __init__(
        self,
        message: str = "",
        *,
        times: int = 3,
        delay: float = 0.0,
        factor: float = 2.0,
        max_delay: float = 600.0,
        jitter: float = 0.2,
        only: Iterable[type[BaseException]] | type[BaseException] = (),
        never: Iterable[type[BaseException]] | type[BaseException] = (),
        after: float | None = None,
    ) -> None:
        super().__init__(message)
        if type(times) is not int or not 0 <= times <= MAX_TIMES:
            _refuse("times", times, f"a whole number from 0 to {MAX_TIMES}")
        self.times = times
        self.delay = _number("delay", delay, 0.0, MAX_DELAY_S, "seconds")
        self.factor = _number("factor", factor, 1.0, 1_000.0)
        self.max_delay = _number("max_delay", max_delay, 0.0, MAX_DELAY_S, "seconds")
        self.jitter = _number("jitter", jitter, 0.0, 1.0)
        self.only = _classes("only", only)
        self.never = _classes("never", never)
        self.after = None if after is None else _number("after", after, 0.0, MAX_DELAY_S, "seconds")

    def encode(self, own_modules: Iterable[str] = ("__main__",)) -> str:
        """Return the policy as the text that `open_run.lua` stores.

        Classes that `own_modules` define are written without a module: a job file has another module name elsewhere.
        """
        own = frozenset(own_modules)
        lists = (
            ",".join(
                ("" if kind.__module__ in own else kind.__module__) + ":" + kind.__qualname__
                for kind in kinds
            )
            or "-"
            for kinds in (self.only, self.never)
        )
        return (
            f"{self.times} {self.delay * 1000:.0f} {self.factor:g} {self.max_delay * 1000:.0f} {self.jitter:g} "
            + " ".join(lists)
        )


class GiveUp(Exception):
    """Raised in a task that must not run again, `raise GiveUp("404")`: it goes straight to the FailChannel."""


def class_names(error: BaseException) -> str:
    """Return the classes of an error, from its own to `Exception`, as `module:QualName` with commas between them.

    Does not fail if reading the names raises. Then it returns ''.
    """
    try:
        names = (
            f"{kind.__module__}:{kind.__qualname__}"
            for kind in type(error).__mro__
            if kind is not object and kind is not BaseException
        )
        return ",".join(names)[:2_000]
    except BaseException:
        return ""


def _number(name: str, value: object, least: float, most: float, unit: str = "") -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        _refuse(name, value, f"a number from {least:g} to {most:g}" + (f" {unit}" if unit else ""))
    return float(value)


def _classes(name: str, given: object) -> tuple[type[BaseException], ...]:
    listed = (given,) if isinstance(given, type) else given
    if not isinstance(listed, Iterable):
        _refuse_classes(name, given)
    kinds = tuple(listed)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            _refuse_classes(name, kind)
        if "<locals>" in kind.__qualname__ or "," in kind.__qualname__ or " " in kind.__module__:
            raise TypeError(
                f"Retry({name}=...): the class {kind.__qualname__} is defined within a function, where agents cannot "
                "name it; define it at the top level of a module."
            )
    return kinds


def _refuse(name: str, value: object, wanted: str) -> NoReturn:
    raise ValueError(f"Retry({name}={value!r}): {name} must be {wanted}.")


def _refuse_classes(name: str, value: object) -> NoReturn:
    raise TypeError(
        f"Retry({name}=...) names {value!r}, which is no class of errors: list classes, such as {name}=(ValueError,)."
    )
