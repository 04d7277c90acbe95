"""The main screen: channels, devices and events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal

from textual import events, on
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.formats import zone
from mutitask_tui.dashboard.keys.screen_bindings import MAIN_BINDINGS
from mutitask_tui.dashboard.model.channel_order import (
    FAULTS,
    NO_CHANNELS,
    ChannelListOptions,
    in_order,
    list_channels,
)
from mutitask_tui.dashboard.model.device_order import NO_DEVICES, DeviceListOptions, list_devices
from mutitask_tui.dashboard.model.health import count_devices
from mutitask_tui.dashboard.model.list_options import ListOptions, next_fault
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.channel_list import ChannelList
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.header import TONES
from mutitask_tui.dashboard.widgets.titles import retitle
from mutitask_tui.server.job_versions import changed_devices, versions
from mutitask_tui.server.snapshot import Snapshot

Panel = Literal["channels", "devices", "events"]

_CHANNELS_SHARE = 0.4
"""The share of the screen's lines that the channels take at most."""


class MainScreen(FrameScreen):
    """Show the channels above the devices, and the events beside or below the devices.

    The keys that filter, sort and look for faults act on the channels if these have the focus, otherwise on the
    devices.
    """

    AUTO_FOCUS = "#devices"
    BINDINGS: ClassVar[list[BindingType]] = [*MAIN_BINDINGS]

    filters: ClassVar[bool] = True

    DEFAULT_CSS = """
    MainScreen {
        #channels { height: 3; }
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
        self.channel_options = ChannelListOptions()
        """The filter and the sort order of the channels."""
        self.channel_list = NO_CHANNELS
        """The channels that the list shows."""
        self._ordered_dense = False
        """Whether the channels are in the order of a dense list."""
        self._placed = False
        """Whether the cursor of the channels has its first place: the first channel in the order of the list."""
        self._filtered_panel: Panel = "devices"
        """The panel that the filter line filters."""

    def body(self) -> Iterable[Widget]:
        """Create the three panels."""
        config = self.host.preferences.config
        layout = config.layout
        self.options = replace(self.options, sort=config.sort, hide_offline=layout.hide_offline)
        self.channel_options = replace(self.channel_options, sort=layout.channel_sort)
        channels = ChannelList(id="channels")
        channels.density = layout.channel_density
        devices = DeviceGrid(id="devices")
        devices.density = layout.density
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
        self._show_channels(snapshot, trend)
        self._show_devices(snapshot)
        log = self.query_one(EventLog)
        log.show(snapshot.events)
        retitle(log, _events_title(log, snapshot))

    @property
    def focused_panel(self) -> Panel:
        """The panel that has the focus. While an input line has it, the panel that had it before."""
        focused = self.focused if isinstance(self.focused, CellGrid | EventLog) else self._focused_before
        if isinstance(focused, EventLog):
            return "events"
        return "channels" if isinstance(focused, ChannelList) else "devices"

    def current_filter(self) -> str:
        """Return the filter of the panel that has the focus."""
        self._filtered_panel = self.focused_panel
        if self._filtered_panel == "events":
            return self.query_one(EventLog).filter_text
        return self._options.filter_text

    def filter_by(self, filter_text: str) -> None:
        """Filter the panel that had the focus when the filter line opened."""
        if self._filtered_panel == "events":
            self.query_one(EventLog).filter_by(filter_text)
        elif self._filtered_panel == "channels":
            self.channel_options = replace(self.channel_options, filter_text=filter_text)
        else:
            self.options = replace(self.options, filter_text=filter_text)
        self._refresh_panels()

    def toggle_density(self) -> tuple[str, str]:
        """Switch between roomy and dense cells. Return the name of the setting and its new value."""
        if self.focused_panel == "channels":
            channels = self.query_one(ChannelList)
            channels.action_toggle_density()
            self._refresh_panels()
            return "layout.channel_density", channels.density
        self.query_one(DeviceGrid).action_toggle_density()
        return "layout.density", self.query_one(DeviceGrid).density

    def next_fault(self, step: int) -> None:
        """Move the cursor to the next device or channel with a fault, or to the previous one if `step` is -1."""
        if self.focused_panel == "channels":
            self._next_channel_fault(step)
            return
        grid = self.query_one(DeviceGrid)
        row = next_fault(self.device_list.rows, grid.cursor, step)
        if row is None:
            hidden = f" ({self.device_list.hidden:,} hidden)" if self.device_list.hidden else ""
            self.host.show_status(f"no visible device is offline, slow or failing{hidden}", "good")
            return
        grid.focus()
        grid.select(row.id)
        self.host.show_status(f"Device{row.id} is {row.fault}", "warn")

    def _next_channel_fault(self, step: int) -> None:
        channels = self.query_one(ChannelList)
        row = next_fault(channels.items, channels.cursor, step)
        if row is None:
            hidden = f" ({self.channel_list.hidden:,} hidden)" if self.channel_list.hidden else ""
            self.host.show_status(f"no visible channel has a fault{hidden}", "good")
            return
        channels.select(row.id)
        self.host.show_status(f"TaskChannel{row.id} {FAULTS[row.fault][2]}", "warn")

    def toggle_faults(self) -> None:
        """Switch between the devices or channels with a fault and all of them."""
        if self.focused_panel == "channels":
            options = self.channel_options
            self.channel_options = replace(options, faults_only=not options.faults_only)
        else:
            self.options = replace(self.options, faults_only=not self.options.faults_only)
        self._refresh_panels()

    def toggle_offline(self) -> bool:
        """Hide or show the offline devices. Return whether they are hidden now."""
        self.options = replace(self.options, hide_offline=not self.options.hide_offline)
        self._refresh_panels()
        return self.options.hide_offline

    def sort_next(self) -> tuple[str, str]:
        """Sort the focused list by its next column. Return the name of the setting and its new value."""
        return self._sort(self.focused_panel, self._options.next_sort)

    def sort_reversed(self) -> tuple[str, str]:
        """Reverse the order of the focused list. Return the name of the setting and its new value."""
        return self._sort(self.focused_panel, self._options.reversed_sort)

    def sort_devices(self, sort: str) -> tuple[str, str]:
        """Sort the devices. Return the name of the setting and its new value."""
        return self._sort("devices", sort)

    def sort_channels(self, sort: str) -> tuple[str, str]:
        """Sort the channels. Return the name of the setting and its new value."""
        return self._sort("channels", sort)

    def _sort(self, panel: Panel, sort: str) -> tuple[str, str]:
        channels = panel == "channels"
        if channels:
            self.channel_options = replace(self.channel_options, sort=sort)
            text = f"channels {self._channel_order() or 'by number ↑'}"
        else:
            self.options = replace(self.options, sort=sort)
            text = f"devices {self.options.sort_text or 'by number ↑'}"
        self._refresh_panels()
        self.host.show_status(text, "calm")
        return ("layout.channel_sort" if channels else "sort"), sort

    @property
    def _options(self) -> ListOptions:
        """The options of the list that the keys act on."""
        return self.channel_options if self.focused_panel == "channels" else self.options

    def action_clear(self) -> None:
        """Clear the marks, or the filters of the focused panel, or all filters."""
        grid, log, panel = self.query_one(DeviceGrid), self.query_one(EventLog), self.focused_panel
        if grid.marked:
            grid.mark(set())
        elif panel == "events" and log.filter_text.strip():
            log.filter_by("")
        elif panel == "channels" and self.channel_options.filter_summary:
            self._clear_channels()
        elif self.options.filter_summary:
            self.options = replace(self.options, filter_text="", faults_only=False)
        else:
            self._clear_channels()
            log.filter_by("")
        self._refresh_panels()

    def _clear_channels(self) -> None:
        self.channel_options = replace(self.channel_options, filter_text="", faults_only=False)

    def on_resize(self, event: events.Resize) -> None:
        """Give the channels their share of the new height."""
        self._fit_channels()

    @on(CellGrid.Marked)
    def _marked(self) -> None:
        self.selection_changed()

    @on(CellGrid.HeightChanged, "#channels")
    def _fit_channels(self) -> None:
        """Give the channels the lines that they need, up to their share, and the devices the rest."""
        channels = self.query_one(ChannelList)
        border = channels.gutter.height
        most = max(2, int(self.size.height * _CHANNELS_SHARE) - border)
        channels.set_room(most)
        channels.styles.height = min(max(2, channels.content_height), most) + border
        first, self._placed = not self._placed, self._placed or channels.is_laid_out
        snapshot = self.host.snapshot
        if snapshot is not None and channels.is_dense(len(self.channel_list.rows)) != self._ordered_dense:
            self._show_channels(snapshot, self.host.trend)
            if first and channels.items:
                channels.select(channels.items[0].id)

    @on(CellGrid.Opened)
    def _opened(self, event: CellGrid.Opened) -> None:
        if event.key is None:
            return
        devices = event.grid is self.query_one(DeviceGrid)
        self.app.push_screen(DeviceScreen(event.key) if devices else ChannelScreen(event.key))

    def _show_channels(self, snapshot: Snapshot, trend: Trend) -> None:
        channels, options = self.query_one(ChannelList), self.channel_options
        self.channel_list = listed = list_channels(snapshot, trend, options)
        channels.show_column(options.column)
        self._ordered_dense = channels.is_dense(len(listed.rows))
        channels.show(in_order(listed.rows, options, dense=self._ordered_dense))
        self._fit_channels()
        retitle(channels, self._channels_title(snapshot))

    def _channel_order(self) -> str:
        dense = self.query_one(ChannelList).is_dense(len(self.channel_list.rows))
        return self.channel_options.sort_text or ("faults first" if dense else "")

    def _channels_title(self, snapshot: Snapshot) -> Content:
        options, listed = self.channel_options, self.channel_list
        order, summary = self._channel_order(), options.filter_summary
        if not order and not summary:
            return Content("Channels")
        parts: list[Content | str | tuple[str, str]] = [f"Channels {len(snapshot.channels):,}"]
        for fault, count in listed.faults.items():
            glyph, tone, _ = FAULTS[fault]
            parts.append((f"  {glyph} {count:,} {fault}", TONES[tone]))
        if summary:
            parts.append((f"  {len(listed.rows):,} {safe_str(summary, 44)}", "$text-accent"))
        return Content.assemble(*parts, f"  {order}" if order else "")

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
            server_job="" if snapshot.server is None else snapshot.server.job,
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
        if (changed := changed_devices(snapshot)) or len(versions(snapshot)) > 1:
            text = (
                f"  job changed on {len(changed):,}"
                if changed
                else f"  {len(versions(snapshot)):,} job versions"
            )
            title = Content.assemble(title, (text, "$text-warning"))
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
