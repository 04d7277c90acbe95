"""Chooses the channel of the next claim: a fair share for each channel with waiting tasks, or a strict order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker_agent.protocol.unpatched import time


class ChannelChoice:
    """Remembers how many tasks wait in each served channel, and how much was claimed from it.

    `weights` are the channels' shares by number; a channel without a weight has 1. With `strict`, a channel gets claims
    only if no channel before it has waiting tasks. Only the claim loop uses it.
    """

    def __init__(self, weights: Sequence[float] = (), *, strict: bool = False) -> None:
        self._weights = weights
        self._strict = strict
        self.channels: tuple[int, ...] = ()
        """The served channels, in the order in which they were named."""
        self._waiting: dict[int, int] = {}
        self._passes: dict[int, float] = {}
        """By channel: claimed tasks divided by the weight. The lowest one is next (stride scheduling)."""
        self._blocked: set[int] = set()
        """Channels that had waiting tasks and gave none: paused, or their next task must run alone."""
        self._limited: dict[int, float] = {}
        """By channel: until when its rate holds tasks back (monotonic)."""
        self.limit_over: set[int] = set()
        """Channels whose limit is over and that nobody has claimed from since."""

    def serve(self, channels: tuple[int, ...]) -> bool:
        """Set the served channels. Return whether they changed."""
        if channels == self.channels:
            return False
        self._waiting = {channel: self._waiting.get(channel, 1) for channel in channels}
        self._passes = {channel: self._passes.get(channel, self._lowest_pass()) for channel in channels}
        self._blocked.clear()
        self._limited.clear()
        self.limit_over.clear()
        self.channels = channels
        return True

    def others(self, channel: int) -> tuple[int, ...]:
        """Return the served channels except one."""
        return tuple(other for other in self.channels if other != channel) if len(self.channels) > 1 else ()

    def unblock(self) -> None:
        """Try channels again that gave no tasks: something has changed."""
        self._blocked.clear()

    def expect_tasks(self, channels: Iterable[int]) -> None:
        """Assume that tasks wait in these channels, because a token came or nobody has looked for a while."""
        for channel in channels:
            if channel in self._waiting:
                self._note(channel, max(1, self._waiting[channel]))

    def limit(self, channel: int, limited_ms: int) -> None:
        """Record what a claim said: in how many ms the channel's rate allows the next task, 0 for no limit."""
        self.limit_over.discard(channel)
        if limited_ms:
            self._limited[channel] = time.monotonic() + limited_ms / 1000
        else:
            self._limited.pop(channel, None)

    def lift_limits(self, channels: Iterable[int]) -> None:
        """Claim from these channels at once: a token came, perhaps because somebody changed the rate."""
        for channel in channels:
            self._limited.pop(channel, None)

    def end_limits(self) -> None:
        """Move the channels whose limit is over to `limit_over`."""
        if self._limited:
            now = time.monotonic()
            for channel in [channel for channel, until in self._limited.items() if until <= now]:
                del self._limited[channel]
                self.limit_over.add(channel)

    def is_limited(self, channel: int | None) -> bool:
        """Return whether the channel's rate holds its tasks back."""
        return channel in self._limited

    def any_limited(self) -> bool:
        """Return whether a rate holds tasks of any channel back."""
        return bool(self._limited)

    def limit_ends_in_s(self) -> float:
        """Return in how many seconds the next limit is over. Infinite if there is none."""
        if not self._limited:
            return float("inf")
        return max(0.0, min(self._limited.values()) - time.monotonic())

    def next(self) -> int:
        """Return the channel to claim from. Without any waiting tasks that is the next in turn."""
        if len(self.channels) == 1:
            return self.channels[0]
        ready = [channel for channel in self.channels if self._is_ready(channel)] or self.channels
        if self._strict:
            return ready[0]
        return min(ready, key=self._passes.__getitem__)

    def waiting_in_all(self) -> int:
        """Return how many tasks waited in all served channels when Redis was last asked."""
        return sum(self._waiting.values())

    def all_empty(self) -> bool:
        """Return whether no task waited in any channel when Redis was last asked."""
        return not any(self._waiting.values())

    def any_ready(self) -> bool:
        """Return whether a claim may bring tasks now."""
        return any(self._is_ready(channel) for channel in self.channels)

    def claimed(self, channel: int, tasks: int, waiting: int, elsewhere: Sequence[int]) -> None:
        """Record the answer of a claim of this channel: claimed and waiting tasks, and those waiting in `others`.

        `elsewhere` is empty if the call did not ask for the others.
        """
        if len(self.channels) == 1:
            if channel in self._waiting:
                self._waiting[channel] = waiting
            return
        if channel in self._waiting:
            self._note(channel, waiting)
            self._passes[channel] += tasks / self._weight(channel)
        for other, count in zip(self.others(channel), elsewhere, strict=False):
            self._note(other, count)

    def gave_none(self, channel: int) -> None:
        """Record that a claim brought no tasks although some wait."""
        self._blocked.add(channel)

    def _note(self, channel: int, waiting: int) -> None:
        if waiting and not self._waiting[channel]:
            # A channel that was empty gets no more than its share from now on.
            self._passes[channel] = max(self._passes[channel], self._lowest_pass())
        self._waiting[channel] = waiting

    def _lowest_pass(self) -> float:
        """Return the pass of the channel that is next. It counts on while a channel has nothing to claim."""
        ready = [self._passes[channel] for channel in self.channels if self._waiting.get(channel)]
        return min(ready, default=max(self._passes.values(), default=0.0))

    def _is_ready(self, channel: int) -> bool:
        return (
            self._waiting.get(channel, 0) > 0
            and channel not in self._blocked
            and channel not in self._limited
        )

    def _weight(self, channel: int) -> float:
        return self._weights[channel] if channel < len(self._weights) else 1.0
