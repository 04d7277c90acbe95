"""What every command stands on: a passing actor's broker, a reader, and who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from mutitask_tui.server.commands.registry import CommandError
from mutitask_tui.server.inspector import Inspector
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import Patience, connect
from worker_agent.protocol.errors import LeaseLost
from worker_agent.protocol.identity import me

T = TypeVar("T")


class Caller:
    """One person's or program's calls to a namespace; `who` is what the event log says of them."""

    def __init__(self, url: str, name: str, who: str = "") -> None:
        identity = me()
        self.who = who or f"{identity.host}:{identity.pid}"
        self.reader = Inspector(url, name)
        self.url = url
        self._client = connect(url)
        self._broker: Broker | None = None
        self._lock = threading.RLock()

    def call(self, call: Callable[[Broker], T]) -> T:
        """What `call` returns; a record that ran out (an hour without a command) is made anew."""
        with self._lock:
            if self._broker is None:
                self._broker = self._enter()
            try:
                return call(self._broker)
            except LeaseLost:
                self._broker = self._enter()
                return call(self._broker)

    def _enter(self) -> Broker:
        # Sent again under its number, a command whose answer was lost acts once; typed again, it might act twice.
        broker = Broker(
            self._client,
            self.reader.name,
            Actor.passing(),
            where=self.reader.where,
            patience=Patience(tries=2),
        )
        broker.enter()
        return broker

    def device_numbers(self) -> list[int]:
        """The devices that there are."""
        return [device.id for device in self.reader.snapshot().devices]

    def known_device(self, device: int) -> int:
        """The device, if there is one of that number. Raises `CommandError`."""
        numbers = self.device_numbers()
        if device not in numbers:
            span = f"Device0 to Device{numbers[-1]}" if numbers else "none yet"
            raise CommandError(f"there is no Device{device}; there is {span}")
        return device

    def agents(self) -> dict[int, str]:
        """The agents that are there: device to actor."""
        return {
            device.id: device.actor for device in self.reader.snapshot().devices if device.state != "offline"
        }

    def channels(self, channel: int | None) -> list[int]:
        """That channel, or all for None. Raises `CommandError` where there is none of that number."""
        count = self.reader.channels()
        if channel is None:
            return list(range(count))
        if channel >= count:
            raise CommandError(
                f"there is no TaskChannel{channel}; there is TaskChannel0 to TaskChannel{count - 1}"
            )
        return [channel]


def devices_text(count: int) -> str:
    """`1 device`, `5 devices`."""
    return "1 device" if count == 1 else f"{count} devices"


def agents_text(count: int) -> str:
    """`1 agent`, `5 agents`."""
    return "1 agent" if count == 1 else f"{count} agents"


def channels_text(channels: list[int]) -> str:
    """The channels by name, or how many where they are many."""
    names = ", ".join(f"TaskChannel{number}" for number in channels[:4])
    return names if len(channels) <= 4 else f"all {len(channels)} channels"
