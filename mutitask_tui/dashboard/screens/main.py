"""The screen that stays open all day: channels, devices, events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar, Literal

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.formats import zone
from mutitask_tui.dashboard.model.device_order import NOTHING, Look, list_devices, next_fault
from mutitask_tui.dashboard.model.health import count_devices
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.channel import ChannelScreen
from mutitask_tui.dashboard.screens.device import DeviceScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.titles import retitle
from mutitask_tui.dashboard.widgets.cell_grid import CellGrid
from mutitask_tui.dashboard.widgets.channel_list import ChannelList, channel_rows
from mutitask_tui.dashboard.widgets.device_grid import DeviceGrid
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.server.snapshot import Snapshot


class MainScreen(FrameScreen):
    """Channels above, devices below, events beside or under them."""

    AUTO_FOCUS = "#devices"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "let_go", "Let go", show=False)]

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
        self.look = Look()
        """How a person wants to see the devices."""
        self.listing = NOTHING
        """What the grid shows."""
        self._filtering: Literal["devices", "events"] = "devices"

    def body(self) -> Iterable[Widget]:
        """The three panels."""
        config = self.host.memory.config
        self.look = replace(self.look, sort=config.sort, hide_offline=config.layout.hide_offline)
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
        """Name what is under a cursor as soon as it moves: by a message it would be painted one frame later."""
        for grid in (self.query_one(ChannelList), self.query_one(DeviceGrid)):
            self.watch(grid, "cursor", self.selection_changed, init=False)

    @property
    def selection(self) -> Selection:
        """The device and the channel under the two cursors, and the marked devices."""
        grid = self.query_one(DeviceGrid)
        marked = {int(str(key)) for key in grid.marked}
        shown = [row.id for row in self.listing.rows if row.id in marked]
        hidden = sorted(marked - set(shown))
        return Selection(
            grid.cursor,
            self.query_one(ChannelList).cursor,
            devices=(*shown, *hidden),
            hidden=len(hidden),
            gone=self.listing.hidden_offline,
        )

    @property
    def hidden_devices(self) -> int:
        """How many devices cannot be seen."""
        return self.listing.hidden

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Hand each panel its part."""
        self.query_one(ChannelList).show(channel_rows(snapshot, trend))
        self._fit_channels()
        self._show_devices(snapshot)
        log = self.query_one(EventLog)
        log.show(snapshot.events)
        retitle(log, _events_title(log, snapshot))

    def filter_value(self) -> str:
        """The filter of the events where these have the focus, else of the devices."""
        self._filtering = "events" if self.query_one(EventLog).has_focus else "devices"
        return self.query_one(EventLog).wanted if self._filtering == "events" else self.look.wanted

    def filter_by(self, wanted: str) -> None:
        """Narrow down the panel that had the focus."""
        if self._filtering == "events":
            self.query_one(EventLog).filter_by(wanted)
        else:
            self.look = replace(self.look, wanted=wanted)
        self._show_again()

    def toggle_density(self) -> str:
        """Show each device in one line or in three; which of them."""
        self.query_one(DeviceGrid).action_toggle_density()
        return self.query_one(DeviceGrid).density

    def next_fault(self, step: int) -> None:
        """Move the cursor to a device with something wrong."""
        grid = self.query_one(DeviceGrid)
        row = next_fault(self.listing.rows, grid.cursor, step)
        if row is None:
            hidden = f" ({self.listing.hidden:,} hidden)" if self.listing.hidden else ""
            self.host.say(f"no device that is shown is offline, slow or failing{hidden}", "good")
            return
        grid.focus()
        grid.select(row.id)
        self.host.say(f"Device{row.id} is {row.fault}", "warn")

    def toggle_faults(self) -> None:
        """Show only the devices with something wrong, or all."""
        self.look = replace(self.look, faults_only=not self.look.faults_only)
        self._show_again()

    def toggle_offline(self) -> bool:
        """Leave offline devices out, or show them; whether they are left out now."""
        self.look = replace(self.look, hide_offline=not self.look.hide_offline)
        self._show_again()
        return self.look.hide_offline

    def sort_by(self, change: Callable[[str], str]) -> str:
        """Sort by what `change` makes of the present order."""
        self.look = replace(self.look, sort=change(self.look.sort))
        self._show_again()
        self.host.say(f"devices {self.look.sort_text or 'by number ↑'}", "calm")
        return self.look.sort

    def action_let_go(self) -> None:
        """Let go of the marks; of what narrows the lists down if nothing is marked."""
        grid, log = self.query_one(DeviceGrid), self.query_one(EventLog)
        if grid.marked:
            grid.mark(set())
        elif log.has_focus and log.wanted.strip():
            log.filter_by("")
        elif self.look.narrow:
            self.look = replace(self.look, wanted="", faults_only=False)
        else:
            log.filter_by("")
        self._show_again()

    @on(CellGrid.Marked)
    def _marked(self) -> None:
        self.selection_changed()

    @on(CellGrid.HeightChanged, "#channels")
    def _fit_channels(self) -> None:
        """The channels take as many lines as they need, the devices the rest."""
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
        self.listing = list_devices(snapshot.devices, self.look, self.host.device_trend, notes, self.listing)
        if grid.marked:
            grid.mark(grid.marked & {device.id for device in snapshot.devices})
        grid.show_column(self.look.column)
        grid.show(self.listing.rows)
        retitle(grid, self._devices_title(snapshot))

    def _show_again(self) -> None:
        if self.host.snapshot is not None:
            self.show(self.host.snapshot, self.host.trend)
            self.selection_changed()

    def _devices_title(self, snapshot: Snapshot) -> Content:
        counts = count_devices(snapshot)
        look, listing = self.look, self.listing
        title = Content.assemble(
            f"Devices {len(snapshot.devices):,}",
            (f"  ● {counts.running:,} running", "$text-success" if counts.running else ""),
            (f"  ‖ {counts.paused:,} paused", "$text-warning" if counts.paused else ""),
            (f"  ✗ {counts.offline:,} offline", "$text-error" if counts.gone else ""),
        )
        if listing.hidden_offline:
            title = Content.assemble(title, (f" ({len(listing.hidden_offline):,} hidden)", "$text-accent"))
        if look.narrow:
            narrow = safe_str(look.narrow, 44)
            title = Content.assemble(title, (f"  {len(listing.rows):,} {narrow}", "$text-accent"))
        return Content.assemble(title, f"  {look.sort_text}") if look.sort_text else title


def _events_title(log: EventLog, snapshot: Snapshot) -> Content:
    title = f"Events ({zone(snapshot.now_ms)})"
    if not log.wanted.strip():
        return Content(title)
    return Content.assemble(
        title, (f"  {len(log.shown):,} match /{safe_str(log.wanted, 30)}", "$text-accent")
    )
