"""All that is known of one device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from mutitask_tui.dashboard.bindings import screen_bindings
from mutitask_tui.dashboard.formats import clock, seen_text, span
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.selection import Selection
from mutitask_tui.dashboard.states import device_state
from mutitask_tui.dashboard.trend import Trend
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import TONES
from mutitask_tui.server.snapshot import DeviceView, Snapshot


class DeviceScreen(FrameScreen):
    """One device's facts and its events; the device keys act on it."""

    AUTO_FOCUS = "#facts-scroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        *screen_bindings("Pause", "Start", "Detect", "Stop", "Purge"),
    ]
    DEFAULT_CSS = """
    DeviceScreen {
        #facts-scroll { height: 2fr; scrollbar-size-vertical: 1; }
        #device-events { height: 1fr; }
    }
    """

    def __init__(self, device: int) -> None:
        super().__init__()
        self._device = device
        self._channel: int | None = None

    def body(self) -> Iterable[Widget]:
        """Facts above, events below."""
        scroll = VerticalScroll(Facts(), id="facts-scroll", classes="panel body")
        scroll.border_title = f"Device{self._device}"
        log = EventLog(id="device-events")
        log.add_class("panel", "body")
        log.border_title = f"Events of Device{self._device}"
        yield scroll
        yield log

    @property
    def selection(self) -> Selection:
        """This device and the channel that it serves."""
        return Selection(self._device, self._channel)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show the device as it is now."""
        device = next((d for d in snapshot.devices if d.id == self._device), None)
        facts = self.query_one(Facts)
        if device is None:
            facts.show([("device", f"Device{self._device} is not in the grid any more", "$text-error")])
            return
        self._channel = device.channel if device.seen_s is not None else None
        facts.show(_facts(device))
        own = f"Device{self._device}"
        self.query_one(EventLog).show([e for e in snapshot.events if e.who == own])


def _facts(device: DeviceView) -> list[Fact]:
    state = device_state(device)
    since = f"{clock(device.since_ms)} UTC" if device.since_ms else "never"
    process = f"{device.host}:{device.pid}" if device.host else "no agent"
    return [
        ("state", state.text, TONES[state.tone]),
        ("wished", device.wished, "$text-warning" if device.wished != device.state else ""),
        ("seen", seen_text(device.seen_s), ""),
        ("agent", process, ""),
        ("agent since", since, ""),
        ("version", device.version or "unknown", ""),
        ("actor", device.actor or "none", ""),
        ("channel", f"TaskChannel{device.channel}" if device.seen_s is not None else "none yet", ""),
        ("done", f"{device.done:,}", ""),
        ("failed", f"{device.failed:,}", "$text-warning" if device.failed else ""),
        ("running", f"{device.running:,}", ""),
        ("longest", span(device.current_s) if device.running else "nothing runs", ""),
        ("its task", device.current or "none", ""),
    ]
