"""The glyph, the word and the tone of each state, so that no state is shown by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutitask_tui.server.snapshot import ChannelView, DeviceView

Tone = Literal["good", "calm", "warn", "bad", "faint"]
"""The kind of a text; widgets map it to a colour of the theme."""


@dataclass(frozen=True, slots=True)
class State:
    """One state as the screen shows it."""

    glyph: str
    word: str
    tone: Tone

    @property
    def text(self) -> str:
        """The glyph and the word."""
        return f"{self.glyph} {self.word}"


RUNNING = State("●", "running", "good")
IDLE = State("◌", "idle", "calm")
PAUSED = State("‖", "paused", "warn")
OFFLINE = State("✗", "offline", "bad")
NEVER = State("○", "offline", "faint")


def device_state(device: DeviceView, rate: float | None = None) -> State:
    """Return a device's state. A device that has never reported is offline, but not alarming.

    `rate` is its settled tasks per second: a running device with rate 0 and no running task is idle.
    """
    if device.state == "offline":
        return NEVER if device.seen_s is None else OFFLINE
    if device.state == "paused":
        return PAUSED
    return IDLE if rate == 0 and not device.running else RUNNING


def pending_state(device: DeviceView) -> str:
    """Return the desired state that a live device has not reached yet; '' if there is none."""
    return device.desired if device.state != "offline" and device.desired != device.state else ""


def channel_state(channel: ChannelView, *, served: bool, has_device: bool = True) -> State:
    """Return whether a channel is fed, and if not, why.

    `served` says whether a server runs that can feed it. `has_device` is False if tasks wait in it and no device
    serves it.
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
