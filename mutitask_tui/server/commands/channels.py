"""The commands about channels and their generators."""

from __future__ import annotations

from mutitask_tui.server.commands.base import CommandGroup, channels_text
from mutitask_tui.server.commands.registry import CommandError, Outcome, rate_argument, rate_text

CHANNELS_PER_CALL = 1_000


class ChannelCommands(CommandGroup):
    """The methods that pause, start, resize and skip."""

    def pause_allot(self) -> Outcome:
        """Stop feeding all channels. Devices continue."""
        self._refuse_if_feeding_ended()
        self._set_allot("paused")
        return Outcome("feeding paused; devices continue with the waiting tasks", data={"allotting": False})

    def start_allot(self) -> Outcome:
        """Resume feeding."""
        self._refuse_if_feeding_ended()
        self._set_allot("")
        return Outcome("feeding resumed", data={"allotting": True})

    def stop_allot(self) -> Outcome:
        """End feeding for good."""
        self._set_allot("ended")
        return Outcome("feeding ended for good; waiting tasks are still run", data={"allotting": False})

    def _refuse_if_feeding_ended(self) -> None:
        desired: bytes | None = self.call(lambda b: b.query("HGET", b.keys.desired_server, "allot"))
        if desired == b"ended":
            raise CommandError("feeding was ended for good by stop_allot: only a new run feeds again")

    def _set_allot(self, value: str) -> None:
        self.call(
            lambda b: b.set_desired(b.keys.desired_server, {"allot": value}, tokens=[b.keys.server_token])
        )

    def reset_max_task(self, capacity: int, channel: int | None = None) -> Outcome:
        """Set the capacity of one channel, or of all channels."""
        channels = self.require_channels(channel)
        for number in channels:
            self.call(lambda b, number=number: b.set_capacity(number, capacity))  # type: ignore[misc]
        return Outcome(
            f"capacity of {channels_text(channels)} is {capacity:,} now",
            data={"capacity": capacity, "channels": channels},
        )

    def reset_rate(self, rate: str, channel: int | None = None) -> Outcome:
        """Limit how many tasks of one channel, or of each channel, may start in a time. `off` removes the limit."""
        wanted = rate_argument(rate)
        channels = self.require_channels(channel)
        value = "" if wanted is None else wanted.encode()
        for first in range(0, len(channels), CHANNELS_PER_CALL):
            part = channels[first : first + CHANNELS_PER_CALL]
            self.call(
                lambda b, part=part: b.set_desired(  # type: ignore[misc]
                    b.keys.desired_channels,
                    {f"rate:{number}": value for number in part},
                    tokens=[b.keys.channel(number).token for number in part],
                )
            )
        limit = "are claimed without a limit" if wanted is None else f"are limited to {wanted} now"
        each = "each of " if wanted is not None and len(channels) > 1 else ""
        return Outcome(
            f"tasks of {each}{channels_text(channels)} {limit}",
            data={"rate": rate_text(wanted), "channels": channels},
        )

    def pause_channel(self, channel: int) -> Outcome:
        """Let no device claim from the channel."""
        self.require_channels(channel)
        self.call(lambda b: b.set_desired(b.keys.desired_channels, {str(channel): "paused"}))
        return Outcome(f"TaskChannel{channel} paused: nothing is claimed from it", data={"channel": channel})

    def start_channel(self, channel: int) -> Outcome:
        """Let devices claim from the channel again."""
        self.require_channels(channel)
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_channels, {str(channel): ""}, tokens=[b.keys.channel(channel).token]
            )
        )
        return Outcome(f"TaskChannel{channel} started", data={"channel": channel})

    def skip_item(self, channel: int) -> Outcome:
        """Ask the server to skip the item at which the feed halted."""
        self.require_channels(channel)
        counters = self.reader.keys.channel(channel).counters
        cursor, halted = self.call(lambda b: b.query("HMGET", counters, "cursor", "halted"))
        if not halted:
            raise CommandError(
                f"TaskChannel{channel}'s feed has not stopped at an item: there is none to skip"
            )
        number = int(cursor or 0)
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_channels, {f"skip:{channel}": str(number)}, tokens=[b.keys.server_token]
            )
        )
        return Outcome(
            f"asked the server to skip item {number} of TaskChannel{channel}", data={"item": number}
        )
