"""Makes the plan of a run from a test's terms."""

from __future__ import annotations

from typing import Any

from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.retry_policy import Retry


def run_plan(*, retries: int = 3, retry_delay_ms: float = 0, **terms: Any) -> RunPlan:
    """Return a plan whose tasks have `retries` retries, with a constant delay before each."""
    policy = Retry(times=min(retries, 98), delay=retry_delay_ms / 1000, factor=1, jitter=0)
    return RunPlan(**{"policies": {"retry": policy.encode()}, **terms})
