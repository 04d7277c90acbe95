"""What all groups of commands share: they find devices and channels, and name them in texts."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError

from mutitask_tui.server.commands.registry import CommandError
from mutitask_tui.server.operator_calls import Caller
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.served_channels import Served, served_numbers
from worker_agent.protocol.unpatched import time


class CommandGroup(Caller):
    """The base of each group. A group has one method for each of its commands, under the command's name."""

    def device_numbers(self) -> list[int]:
        """Return the numbers of all devices."""
        return self.reader.device_numbers()

    def require_device(self, device: int) -> int:
        """Return the device's number. Raises `CommandError` if there is no such device."""
        numbers = self.device_numbers()
        if device not in numbers:
            span = f"Device0 to Device{numbers[-1]}" if numbers else "none yet"
            raise CommandError(f"there is no Device{device}; there is {span}")
        return device

    def require_channels(self, channel: int | None) -> list[int]:
        """Return that channel's number, or all numbers for None. Raises `CommandError` if there is no such channel."""
        return list(self.require_served(None if channel is None else (channel,)))

    def require_served(self, served: Served) -> tuple[int, ...]:
        """Return the numbers of these channels. Raises `CommandError` if one of them does not exist."""
        count = self.reader.channels()
        for channel in served or ():
            if channel >= count:
                raise CommandError(
                    f"there is no TaskChannel{channel}; there is TaskChannel0 to TaskChannel{count - 1}"
                )
        return served_numbers(served, count)

    def agents_answers(self, name: str, wait_s: float) -> Iterator[bytes]:
        """Yield what agents answer in the list of this name, for at most `wait_s`. Raises what Redis's errors mean."""
        key, deadline = self.reader.keys.detect_answers(name), time.monotonic() + wait_s
        with connect(self.url, blocking=True) as client:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    reply = client.execute_command("BLPOP", key, f"{left:.3f}")
                except (RedisError, OSError) as error:
                    raise translate(error, self.reader.address) from error
                if reply is None:
                    return
                yield reply[1]


def devices_text(count: int) -> str:
    """Return `1 device`, `5 devices`."""
    return "1 device" if count == 1 else f"{count} devices"


def agents_text(count: int) -> str:
    """Return `1 agent`, `5 agents`."""
    return "1 agent" if count == 1 else f"{count} agents"


def channels_text(channels: list[int]) -> str:
    """Return the channels' names, or their number if there are more than four."""
    names = ", ".join(f"TaskChannel{number}" for number in channels[:4])
    return names if len(channels) <= 4 else f"all {len(channels)} channels"
