"""`Task`: what a generator may yield instead of a plain payload, to give one task options of its own."""

from __future__ import annotations

from typing import Any

from worker_agent.protocol.counts import checked_number
from worker_agent.protocol.list_item import Options
from worker_agent.protocol.retry_policy import MAX_DELAY_S, checked_retries


class Task:
    """A payload with options: `yield Task(payload, timeout=30, retries=0, delay=60)`.

    `timeout` limits each run, in seconds, instead of the agent's `--timeout`. `retries` is how often the task runs
    again after an error, instead of the policy's `times`. `delay` is how long the task waits before its first run, in
    seconds. The task function gets the payload alone. Raises `ValueError` with one sentence about a bad value.
    """

    __slots__ = ("options", "payload")

    def __init__(
        self,
        payload: Any,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        delay: float | None = None,
    ) -> None:
        if timeout is not None:
            timeout = checked_number("timeout of Task", timeout, 0.001, MAX_DELAY_S, "seconds")
        if retries is not None:
            retries = checked_retries("retries of Task", retries)
        if delay is not None:
            delay = checked_number("delay of Task", delay, 0, MAX_DELAY_S, "seconds")
        self.payload = payload
        self.options = Options(timeout, retries, round(delay * 1000) or None if delay else None)

    def __repr__(self) -> str:
        """Return the call that makes an equal task."""
        timeout, retries, delay_ms = self.options
        given = {
            "timeout": timeout,
            "retries": retries,
            "delay": None if delay_ms is None else delay_ms / 1000,
        }
        words = [
            repr(self.payload),
            *(f"{name}={value!r}" for name, value in given.items() if value is not None),
        ]
        return f"Task({', '.join(words)})"
