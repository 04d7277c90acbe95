"""The main screen: channels, devices and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar, Literal

from textual import on
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.formats import zone
from mutitask_tui.dashboard.keys.screen_bindings import MAIN_BINDINGS
from mutitask_tui.dashboard.model.device_order import NO_DEVICES, DeviceListOptions, list_devices, next_fault
from mutitask_tui.dashboard.model.health import count_devices
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.channel_list import ChannelList, channel_rows
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.titles import retitle
from mutitask_tui.server.snapshot import Snapshot


class MainScreen(FrameScreen):
    """Show the channels above the devices, and the events beside or below the devices."""

    AUTO_FOCUS = "#devices"
    BINDINGS: ClassVar[list[BindingType]] = [*MAIN_BINDINGS]

    filters: ClassVar[bool] = True

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
        self.options = DeviceListOptions()
        """The filter, the sort order and the toggles of the device grid."""
        self.device_list = NO_DEVICES
        """The devices that the grid shows."""
        self._filtered_panel: Literal["devices", "events"] = "devices"
        """The panel that the filter line filters."""

    def body(self) -> Iterable[Widget]:
        """Create the three panels."""
        config = self.host.preferences.config
        self.options = replace(self.options, sort=config.sort, hide_offline=config.layout.hide_offline)
        channels = ChannelList(id="channels")
        devices = DeviceGrid(id="devices")
        devices.density = config.layout.density
        log = EventLog(id="events")
        for panel, title in ((channels, "Channels"), (devices, "Devices"), (log, "Events")):
            panel.border_title = title
            panel.add_class("panel", "body")
        yield channels
        yield Container(devices, log, id="lower")

    def on_mount(self) -> None:
        """Watch both cursors, to update the status line at once. With a message it would change one frame later."""
        for grid in (self.query_one(ChannelList), self.query_one(DeviceGrid)):
            self.watch(grid, "cursor", self.selection_changed, init=False)

    @property
    def selection(self) -> Selection:
        """The device and the channel under the cursors, and the marked devices."""
        grid = self.query_one(DeviceGrid)
        marked = {int(str(key)) for key in grid.marked}
        shown = [row.id for row in self.device_list.rows if row.id in marked]
        hidden = sorted(marked - set(shown))
        return Selection(
            grid.cursor,
            self.query_one(ChannelList).cursor,
            devices=(*shown, *hidden),
            hidden=len(hidden),
            gone=self.device_list.hidden_offline,
        )

    @property
    def hidden_devices(self) -> int:
        """The number of devices that a filter or a toggle hides."""
        return self.device_list.hidden

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show each panel's part of the snapshot."""
        self.query_one(ChannelList).show(channel_rows(snapshot, trend))
        self._fit_channels()
        self._show_devices(snapshot)
        log = self.query_one(EventLog)
        log.show(snapshot.events)
        retitle(log, _events_title(log, snapshot))

    def current_filter(self) -> str:
        """Return the filter of the events if they have the focus, otherwise that of the devices."""
        self._filtered_panel = "events" if self.query_one(EventLog).has_focus else "devices"
        return (
            self.query_one(EventLog).filter_text
            if self._filtered_panel == "events"
            else self.options.filter_text
        )

    def filter_by(self, filter_text: str) -> None:
        """Filter the panel that had the focus when the filter line opened."""
        if self._filtered_panel == "events":
            self.query_one(EventLog).filter_by(filter_text)
        else:
            self.options = replace(self.options, filter_text=filter_text)
        self._refresh_panels()

    def toggle_density(self) -> str:
        """Switch between one line and three lines for each device. Return the new density."""
        self.query_one(DeviceGrid).action_toggle_density()
        return self.query_one(DeviceGrid).density

    def next_fault(self, step: int) -> None:
        """Move the cursor to the next device with a fault, or to the previous one if `step` is -1."""
        grid = self.query_one(DeviceGrid)
        row = next_fault(self.device_list.rows, grid.cursor, step)
        if row is None:
            hidden = f" ({self.device_list.hidden:,} hidden)" if self.device_list.hidden else ""
            self.host.show_status(f"no visible device is offline, slow or failing{hidden}", "good")
            return
        grid.focus()
        grid.select(row.id)
        self.host.show_status(f"Device{row.id} is {row.fault}", "warn")

    def toggle_faults(self) -> None:
        """Switch between the devices with a fault and all devices."""
        self.options = replace(self.options, faults_only=not self.options.faults_only)
        self._refresh_panels()

    def toggle_offline(self) -> bool:
        """Hide or show the offline devices. Return whether they are hidden now."""
        self.options = replace(self.options, hide_offline=not self.options.hide_offline)
        self._refresh_panels()
        return self.options.hide_offline

    def sort_by(self, change: Callable[[str], str]) -> str:
        """Sort the devices. `change` returns the new sort order for the present one, which is also returned."""
        self.options = replace(self.options, sort=change(self.options.sort))
        self._refresh_panels()
        self.host.show_status(f"devices {self.options.sort_text or 'by number ↑'}", "calm")
        return self.options.sort

    def action_clear(self) -> None:
        """Clear the marks, or the filters if nothing is marked."""
        grid, log = self.query_one(DeviceGrid), self.query_one(EventLog)
        if grid.marked:
            grid.mark(set())
        elif log.has_focus and log.filter_text.strip():
            log.filter_by("")
        elif self.options.filter_summary:
            self.options = replace(self.options, filter_text="", faults_only=False)
        else:
            log.filter_by("")
        self._refresh_panels()

    @on(CellGrid.Marked)
    def _marked(self) -> None:
        self.selection_changed()

    @on(CellGrid.HeightChanged, "#channels")
    def _fit_channels(self) -> None:
        """Give the channels the lines that they need, and the devices the rest."""
        channels = self.query_one(ChannelList)
        channels.styles.height = max(2, channels.content_height) + channels.gutter.height

    @on(CellGrid.Opened)
    def _opened(self, event: CellGrid.Opened) -> None:
        if event.key is None:
            return
        devices = event.grid is self.query_one(DeviceGrid)
        self.app.push_screen(DeviceScreen(event.key) if devices else ChannelScreen(event.key))

    def _show_devices(self, snapshot: Snapshot) -> None:
        grid = self.query_one(DeviceGrid)
        notes = self.host.detections.at(snapshot.now_ms)
        self.device_list = list_devices(
            snapshot.devices,
            self.options,
            self.host.device_trend,
            notes,
            self.device_list,
            channels=len(snapshot.channels),
        )
        if grid.marked:
            grid.mark(grid.marked & {device.id for device in snapshot.devices})
        grid.show_column(self.options.column)
        grid.show(self.device_list.rows)
        retitle(grid, self._devices_title(snapshot))

    def _refresh_panels(self) -> None:
        if self.host.snapshot is not None:
            self.show(self.host.snapshot, self.host.trend)
            self.selection_changed()

    def _devices_title(self, snapshot: Snapshot) -> Content:
        counts = count_devices(snapshot)
        options, device_list = self.options, self.device_list
        title = Content.assemble(
            f"Devices {len(snapshot.devices):,}",
            (f"  ● {counts.running:,} running", "$text-success" if counts.running else ""),
            (f"  ‖ {counts.paused:,} paused", "$text-warning" if counts.paused else ""),
            (f"  ✗ {counts.offline:,} offline", "$text-error" if counts.gone else ""),
        )
        if device_list.hidden_offline:
            title = Content.assemble(
                title, (f" ({len(device_list.hidden_offline):,} hidden)", "$text-accent")
            )
        if options.filter_summary:
            summary = safe_str(options.filter_summary, 44)
            title = Content.assemble(title, (f"  {len(device_list.rows):,} {summary}", "$text-accent"))
        return Content.assemble(title, f"  {options.sort_text}") if options.sort_text else title


def _events_title(log: EventLog, snapshot: Snapshot) -> Content:
    title = f"Events ({zone(snapshot.now_ms)})"
    if not log.filter_text.strip():
        return Content(title)
    return Content.assemble(
        title, (f"  {len(log.shown):,} match /{safe_str(log.filter_text, 30)}", "$text-accent")
    )
