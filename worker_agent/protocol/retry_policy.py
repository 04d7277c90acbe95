"""Retry policies: which failed tasks run again, how often and when; and the exceptions that overrule them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from worker_agent.protocol.counts import checked_number
from worker_agent.protocol.text import shown

MAX_TIMES = 98
"""The most retries of a task: an item's header has two digits for the attempt."""
MAX_DELAY_S = 7 * 86_400.0
"""The longest delay, in seconds."""
_NAME = re.compile(r"[^\s,:]+:[^\s,:]+")
_MAX_NAMES = 2_000
"""The most characters of the names of an error's classes."""


class Retry(Exception):
    """A retry policy in the job file, and an exception with which a task asks for another run.

    As a policy, `Retry(times=5, delay=2)`: a failed task runs again up to `times` times. The first delay is `delay`
    seconds. Each further one is `factor` times as long, up to `max_delay` seconds, but never shorter than `delay`.
    `jitter` lengthens or shortens a delay by up to that part of it. `only` are the classes of errors that are retried,
    and `never` those that are not. Without a delay, the task goes to the front of its channel.

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
        self.times = checked_retries("times of Retry", times)
        self.delay = checked_number("delay of Retry", delay, 0, MAX_DELAY_S, "seconds")
        self.factor = checked_number("factor of Retry", factor, 1, 1_000)
        self.max_delay = checked_number("max_delay of Retry", max_delay, 0, MAX_DELAY_S, "seconds")
        self.jitter = checked_number("jitter of Retry", jitter, 0, 1)
        self.only = _classes("only", only)
        self.never = _classes("never", never)
        self.after = (
            None if after is None else checked_number("after of Retry", after, 0, MAX_DELAY_S, "seconds")
        )

    def changed(
        self,
        *,
        times: int | None = None,
        delay: float | None = None,
        factor: float | None = None,
        max_delay: float | None = None,
        jitter: float | None = None,
    ) -> Retry:
        """Return the policy with those of these values that are not None."""
        return Retry(
            times=self.times if times is None else times,
            delay=self.delay if delay is None else delay,
            factor=self.factor if factor is None else factor,
            max_delay=self.max_delay if max_delay is None else max_delay,
            jitter=self.jitter if jitter is None else jitter,
            only=self.only,
            never=self.never,
        )

    def encode(self, own_modules: Iterable[str] = ("__main__",)) -> str:
        """Return the policy as the text that `open_run.lua` stores.

        Classes that `own_modules` define are written without a module: a job file has another module name elsewhere.
        """
        own = frozenset(own_modules)
        only, never = (
            ",".join(
                ("" if kind.__module__ in own else kind.__module__) + ":" + kind.__qualname__
                for kind in kinds
            )
            or "-"
            for kinds in (self.only, self.never)
        )
        delay_ms, longest_ms = self.delay * 1000, max(self.max_delay, self.delay) * 1000
        return f"{self.times} {delay_ms:.0f} {self.factor:g} {longest_ms:.0f} {self.jitter:g} {only} {never}"


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
        return ",".join(names)[:_MAX_NAMES]
    except BaseException:
        return ""


def checked_retries(label: str, value: object) -> int:
    """Return a number of retries. Raises `ValueError` with one sentence, which starts with `label`."""
    if type(value) is not int or not 0 <= value <= MAX_TIMES:
        raise ValueError(f"{label} must be a whole number from 0 to {MAX_TIMES}, not {shown(value)[:40]}")
    return value


def _classes(name: str, given: object) -> tuple[type[BaseException], ...]:
    listed = (given,) if isinstance(given, type) else given
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        _refuse_classes(name, given)
    kinds = tuple(listed)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            _refuse_classes(name, kind)
        if "<locals>" in kind.__qualname__ or not _NAME.fullmatch(f"{kind.__module__}:{kind.__qualname__}"):
            raise TypeError(
                f"{name} of Retry names {kind.__qualname__}, a class that agents cannot find by its name: define it at "
                "the top level of a module"
            )
    return kinds


def _refuse_classes(name: str, value: object) -> NoReturn:
    raise TypeError(
        f"{name} of Retry must list classes of errors, such as {name}=(ValueError,), not {shown(value)[:40]}"
    )
