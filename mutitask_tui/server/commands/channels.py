"""The commands about channels and their generators."""

from __future__ import annotations

from mutitask_tui.server.caller import Caller, channels_text
from mutitask_tui.server.commands.registry import CommandError, Outcome


class FeedCommands(Caller):
    """Methods of the registry's names."""

    def pause_allot(self) -> Outcome:
        """Stop feeding; devices go on."""
        if self._allot_wish() == "ended":
            raise CommandError("feeding was ended for good by stop_allot: only a new run feeds again")
        self._wish_allot("paused")
        return Outcome("feeding paused; devices go on with what waits", data={"allotting": False})

    def start_allot(self) -> Outcome:
        """Resume feeding."""
        if self._allot_wish() == "ended":
            raise CommandError("feeding was ended for good by stop_allot: only a new run feeds again")
        self._wish_allot("")
        return Outcome("feeding resumed", data={"allotting": True})

    def stop_allot(self) -> Outcome:
        """End feeding for good."""
        self._wish_allot("ended")
        return Outcome("feeding ended for good; what waits runs out", data={"allotting": False})

    def _allot_wish(self) -> str:
        wish: bytes | None = self.call(lambda b: b.ask("HGET", b.keys.desired_server, "allot"))
        return (wish or b"").decode()

    def _wish_allot(self, value: str) -> None:
        self.call(
            lambda b: b.set_desired(b.keys.desired_server, {"allot": value}, tokens=[b.keys.server_token])
        )

    def reset_max_task(self, capacity: int, channel: int | None = None) -> Outcome:
        """Set the capacity of one channel, or of all."""
        channels = self.channels(channel)
        for number in channels:
            self.call(lambda b, number=number: b.set_capacity(number, capacity))  # type: ignore[misc]
        return Outcome(
            f"capacity of {channels_text(channels)} is {capacity:,} now",
            data={"capacity": capacity, "channels": channels},
        )

    def pause_channel(self, channel: int) -> Outcome:
        """No device claims from the channel."""
        self.channels(channel)
        self.call(lambda b: b.set_desired(b.keys.desired_channels, {str(channel): "paused"}))
        return Outcome(f"TaskChannel{channel} paused: nothing is claimed from it", data={"channel": channel})

    def start_channel(self, channel: int) -> Outcome:
        """Devices claim from the channel again."""
        self.channels(channel)
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_channels, {str(channel): ""}, tokens=[b.keys.channel(channel).token]
            )
        )
        return Outcome(f"TaskChannel{channel} started", data={"channel": channel})

    def skip_item(self, channel: int) -> Outcome:
        """Pass over the item at which the feed stopped."""
        self.channels(channel)
        books = self.reader.keys.channel(channel).books
        cursor, halted = self.call(lambda b: b.ask("HMGET", books, "cursor", "halted"))
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
            f"asked the server to pass over item {number} of TaskChannel{channel}", data={"item": number}
        )
