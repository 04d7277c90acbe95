"""The glyph, the word and the tone of each state: none of the three is left to colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutitask_tui.server.snapshot import ChannelView, DeviceView

Tone = Literal["good", "calm", "warn", "bad", "faint"]
"""How a thing is meant to look; widgets map it to a colour of the theme."""


@dataclass(frozen=True, slots=True)
class State:
    """One state, ready to show."""

    glyph: str
    word: str
    tone: Tone

    @property
    def text(self) -> str:
        """Glyph and word."""
        return f"{self.glyph} {self.word}"


RUNNING = State("●", "running", "good")
IDLE = State("◌", "idle", "calm")
PAUSED = State("‖", "paused", "warn")
OFFLINE = State("✗", "offline", "bad")
NEVER = State("○", "offline", "faint")


def device_state(device: DeviceView, rate: float | None = None) -> State:
    """What a device is; one that never reported is offline too, but not alarming.

    `rate` is how many tasks it settled a second: a running device without any, and with none in hand, is idle.
    """
    if device.state == "offline":
        return NEVER if device.seen_s is None else OFFLINE
    if device.state == "paused":
        return PAUSED
    return IDLE if rate == 0 and not device.running else RUNNING


def device_wish(device: DeviceView) -> str:
    """The state that a live device was asked for and has not reached yet, or ''."""
    return device.desired if device.state != "offline" and device.desired != device.state else ""


def channel_state(channel: ChannelView, *, served: bool, has_device: bool = True) -> State:
    """Whether a channel is fed, and if not, why. `served`: whether a server is there to feed it.

    `has_device`: False where tasks wait in it and no device serves it.
    """
    if channel.halted:
        return State("✗", "halted", "bad")
    if channel.paused:
        return State("‖", "paused", "warn")
    if not has_device:
        return State("!", "no device", "bad")
    if channel.exhausted:
        return State("✓", "finished", "good") if not channel.open else State("■", "exhausted", "calm")
    if not served:
        return State("○", "no server", "bad")
    return State("▶", "feeding", "good") if channel.allotting else State("‖", "not fed", "warn")
