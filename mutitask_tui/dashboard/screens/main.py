"""The screen that stays open all day: channels, devices, events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.selection import Selection
from mutitask_tui.dashboard.trend import Trend
from mutitask_tui.dashboard.verdict import count_devices
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.channel_list import ChannelList, channel_rows
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.line_input import FilterLine, matches
from mutitask_tui.server.snapshot import DeviceView, Snapshot


class MainScreen(FrameScreen):
    """Channels above, devices below, events beside or under them."""

    AUTO_FOCUS = "#devices"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop_filter", "Drop filter", show=False)]

    DEFAULT_CSS = """
    MainScreen {
        #channels { height: 3; max-height: 40%; }
        #lower { height: 1fr; layout: vertical; }
        #devices { height: 1fr; min-height: 4; }
        #events { height: 4; }
        &.-tall #devices { height: 3fr; }
        &.-tall #events { height: 2fr; }
        &.-wide #lower { layout: horizontal; }
        &.-wide #devices { width: 2fr; height: 1fr; }
        &.-wide #events { width: 1fr; height: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted = ""
        """The device filter."""

    def body(self) -> Iterable[Widget]:
        """The three panels and the filter."""
        channels = ChannelList(id="channels")
        devices = DeviceGrid(id="devices")
        devices.density = self.host.memory.config.layout.density
        log = EventLog(id="events")
        for panel, title in ((channels, "Channels"), (devices, "Devices"), (log, "Events (UTC)")):
            panel.border_title = title
            panel.add_class("panel", "body")
        yield channels
        yield Container(devices, log, id="lower")
        yield FilterLine(id="filter-line").add_class("line")

    @property
    def selection(self) -> Selection:
        """The device and the channel under the two cursors."""
        return Selection(self.query_one(DeviceGrid).cursor, self.query_one(ChannelList).cursor)

    @property
    def hidden_devices(self) -> int:
        """How many devices the filter hides."""
        snapshot = self.host.snapshot
        return len(snapshot.devices) - len(self._filtered(snapshot.devices)) if snapshot else 0

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Hand each panel its part."""
        channels = self.query_one(ChannelList)
        channels.show(channel_rows(snapshot, trend))
        channels.styles.height = max(2, channels.lines_wanted) + channels.gutter.height
        shown = self._filtered(snapshot.devices)
        grid = self.query_one(DeviceGrid)
        grid.show(shown)
        grid.border_title = self._devices_title(snapshot, len(shown))
        self.query_one(EventLog).show(snapshot.events)

    def open_filter(self) -> None:
        """Let a person narrow the devices down."""
        line = self.query_one(FilterLine)
        line.add_class("-open")
        line.focus()

    def toggle_density(self) -> str:
        """Show each device in one line or in three; which of them."""
        self.query_one(DeviceGrid).action_toggle_density()
        return self.query_one(DeviceGrid).density

    def action_drop_filter(self) -> None:
        """Show all devices again."""
        self._drop_filter()

    @on(CellGrid.Highlighted)
    def _moved(self) -> None:
        self.selection_changed()

    @on(CellGrid.Opened)
    def _opened(self, event: CellGrid.Opened) -> None:
        if event.key is None:
            return
        devices = event.grid is self.query_one(DeviceGrid)
        self.app.push_screen(DeviceScreen(event.key) if devices else ChannelScreen(event.key))

    @on(Input.Changed, "#filter-line")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.wanted = event.value
        self._show_again()

    @on(Input.Submitted, "#filter-line")
    def _filter_kept(self) -> None:
        self.query_one(DeviceGrid).focus()
        self.query_one(FilterLine).set_class(bool(self.wanted.strip()), "-open")

    @on(FilterLine.Dropped)
    def _drop_filter(self) -> None:
        line = self.query_one(FilterLine)
        line.value = self.wanted = ""
        line.remove_class("-open")
        if line.has_focus:
            self.query_one(DeviceGrid).focus()
        self._show_again()

    def _show_again(self) -> None:
        if self.host.snapshot is not None:
            self.show(self.host.snapshot, self.host.trend)

    def _filtered(self, devices: tuple[DeviceView, ...]) -> tuple[DeviceView, ...]:
        if not self.wanted.strip():
            return devices
        return tuple(d for d in devices if matches(_device_text(d), self.wanted))

    def _devices_title(self, snapshot: Snapshot, shown: int) -> Content:
        counts = count_devices(snapshot)
        title = Content.assemble(
            f"Devices {len(snapshot.devices):,}",
            (f"  ● {counts.running:,} running", "$text-success" if counts.running else ""),
            (f"  ‖ {counts.paused:,} paused", "$text-warning" if counts.paused else ""),
            (f"  ✗ {counts.offline:,} offline", "$text-error" if counts.gone else ""),
        )
        if self.wanted.strip():
            wanted = safe_str(self.wanted, 30)
            title = Content.assemble(title, (f"  {shown:,} match /{wanted}", "$text-accent"))
        return title


def _device_text(device: DeviceView) -> str:
    return f"device{device.id} {device.state} {device.host} taskchannel{device.channel} {device.current}"
