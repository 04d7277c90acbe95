"""What a job says for each channel: its retry policies and rates, and the fields in which a namespace stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker_agent.protocol.rate import Rate, parse_rate
from worker_agent.protocol.retry_policy import Retry
from worker_agent.protocol.text import plural, shown

Policies = Retry | tuple[Retry | None, ...] | None
"""One policy for all channels, or one for each; None for the default."""
Rates = Rate | tuple[Rate | None, ...] | None
"""One rate for each of all channels, or one for each channel; None for no limit."""


def checked_policies(given: object) -> Policies:
    """Return the policies that a job names as `retry`. Raises `TypeError` with one sentence."""
    if given is None or isinstance(given, Retry):
        return given
    if not isinstance(given, list | tuple) or not all(
        policy is None or isinstance(policy, Retry) for policy in given
    ):
        raise TypeError(
            f"`retry` must be Retry(...), or a list with a Retry or None for each channel, not {shown(given)[:40]}"
        )
    return tuple(given)


def checked_rates(given: object) -> Rates:
    """Return the rates that a job names as `rates`. Raises `TypeError` or `ValueError` with one sentence."""
    if given is None:
        return None
    if isinstance(given, str):
        return parse_rate(given)
    if not isinstance(given, list | tuple):
        raise TypeError(
            "`rates` must be text such as '10/s', or a list with such a text or None for each channel, "
            f"not {shown(given)[:40]}"
        )
    return tuple(None if rate is None else parse_rate(rate) for rate in given)


def policy_fields(
    policies: Policies,
    channels: int,
    own_modules: Iterable[str] = ("__main__",),
    *,
    times: int | None = None,
    delay: float | None = None,
    factor: float | None = None,
    max_delay: float | None = None,
    jitter: float | None = None,
) -> dict[str, str]:
    """Return `retry` for all channels, and `retry:C` for each channel with a policy of its own.

    The values that are not None take the place of those in every policy. Raises `ValueError` with one sentence.
    """

    def encoded(policy: Retry | None) -> str:
        changed = (policy or Retry()).changed(
            times=times, delay=delay, factor=factor, max_delay=max_delay, jitter=jitter
        )
        return changed.encode(own_modules)

    own_modules = tuple(own_modules)
    if not isinstance(policies, tuple):
        return {"retry": encoded(policies)}
    _refuse_more("retry", policies, channels)
    own = {f"retry:{number}": encoded(policy) for number, policy in enumerate(policies) if policy is not None}
    return {"retry": encoded(None)} | own


def rate_fields(rates: Rates, channels: int) -> dict[str, str]:
    """Return `rate:C` for each channel with a rate. Raises `ValueError` with one sentence."""
    each = [rates] * channels if isinstance(rates, Rate) else rates or ()
    _refuse_more("rates", each, channels)
    return {f"rate:{number}": rate.encode() for number, rate in enumerate(each) if rate is not None}


def _refuse_more(name: str, listed: Sequence[object], channels: int) -> None:
    if len(listed) > channels:
        raise ValueError(
            f"`{name}` lists {len(listed)} entries for {plural(channels, 'channel')}: list one for each"
        )
