"""Repeat a call while Redis is away."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from worker_agent.protocol.errors import RedisUnavailable
from worker_agent.protocol.unpatched import time

T = TypeVar("T")


class RetryPolicy:
    """How long and how often a call is repeated while Redis is away.

    The pause between two tries grows from 0.05 s to `max_pause_s` and has jitter, so that many callers do not come at
    once. `max_pause_s` may be a function that is asked before each pause. `max_tries` limits the tries; None
    means no limit. After `give_up` is set, three more tries follow before the error is raised. `on_wait(error)` is
    called once for each distinct error, `on_recovered()` when a call succeeds after failed tries.
    """

    def __init__(
        self,
        *,
        give_up: threading.Event | None = None,
        max_tries: int | None = None,
        max_pause_s: float | Callable[[], float] = 2.0,
        on_wait: Callable[[RedisUnavailable], None] | None = None,
        on_recovered: Callable[[], None] | None = None,
    ) -> None:
        self._give_up = give_up or threading.Event()
        self._max_tries = max_tries
        self._max_pause_s = max_pause_s
        self._on_wait = on_wait
        self._on_recovered = on_recovered
        self.waiting_reason = ""
        """Why a call is being repeated now; '' if none is."""
        self.waiting_since = 0.0
        """When the repeats began, in seconds of this machine's clock."""
        self.recoveries = 0
        """How many calls succeeded after failed tries."""

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Repeats it as long as it raises `RedisUnavailable`."""
        tries = tries_after_give_up = 0
        reported: set[str] = set()
        while True:
            try:
                value = call()
            except RedisUnavailable as error:
                tries += 1
                tries_after_give_up += self._give_up.is_set()
                if tries_after_give_up > 3 or (self._max_tries is not None and tries >= self._max_tries):
                    self.waiting_reason = ""
                    raise
                if not self.waiting_reason:
                    self.waiting_since = time.time()
                self.waiting_reason = str(error)
                if str(error) not in reported:
                    reported.add(str(error))
                    if self._on_wait is not None:
                        self._on_wait(error)
                pause = pause_s(
                    tries, self._max_pause_s() if callable(self._max_pause_s) else self._max_pause_s
                )
                if tries_after_give_up:
                    time.sleep(0.2)
                else:
                    self._give_up.wait(pause)
            else:
                if tries:
                    self.waiting_reason = ""
                    self.recoveries += 1
                    if self._on_recovered is not None:
                        self._on_recovered()
                return value


def pause_s(tries: int, longest: float) -> float:
    """Return the pause in seconds before the next try. It grows up to `longest` and has jitter."""
    return min(longest, 0.05 * 2.0 ** min(tries, 8)) * random.uniform(0.5, 1.0)  # noqa: S311


NO_RETRIES = RetryPolicy(max_tries=1)
