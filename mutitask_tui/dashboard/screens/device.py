"""The screen of one device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.formats import rate_text, seen_text, span, when, zone
from mutitask_tui.dashboard.keys.screen_bindings import DEVICE_BINDINGS
from mutitask_tui.dashboard.model.device_trend import DeviceTrend
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.states import device_state
from mutitask_tui.dashboard.model.text_filter import matcher
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.screens.task import TaskScreen
from mutitask_tui.dashboard.widgets.event_log import EventLog
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import TONES
from mutitask_tui.dashboard.widgets.said_lines import Said, SaidLines, merged, said_text
from mutitask_tui.dashboard.widgets.task_list import TaskList
from mutitask_tui.dashboard.widgets.titles import retitle
from mutitask_tui.server.job_versions import SHORT, is_other
from mutitask_tui.server.snapshot import DeviceView, Snapshot, channel_names
from worker_agent.protocol.served_channels import served_numbers


class AgentLog(SaidLines):
    """Show the last lines of an agent's log and of its tasks."""


class DeviceScreen(PeekingScreen):
    """Show the facts, the running tasks and the events of a device, and what its agent and its tasks said.

    The device keys act on this device.
    """

    AUTO_FOCUS = "#running, #device-log"
    BINDINGS: ClassVar[list[BindingType]] = [*DEVICE_BINDINGS]
    filters: ClassVar[bool] = True
    DEFAULT_CSS = """
    DeviceScreen {
        #facts-scroll { height: auto; max-height: 50%; scrollbar-size-vertical: 1; }
        #lower { height: 1fr; layout: vertical; }
        #device-events { height: 1fr; min-height: 3; }
        #device-log { height: 2fr; }
        &.-wide #lower { layout: horizontal; }
        &.-wide #device-events { width: 1fr; height: 1fr; }
        &.-wide #device-log { width: 1fr; height: 1fr; }
    }
    """

    def __init__(self, device: int) -> None:
        super().__init__()
        self._device = device
        self._channel: int | None = None
        self._log: tuple[Said, ...] = ()
        self._filter_text = ""
        self._log_file = ""
        """The path that the log's panel shows."""

    def body(self) -> Iterable[Widget]:
        """Create the facts above, and the events and the log below."""
        scroll = VerticalScroll(Facts(), id="facts-scroll", classes="panel body", can_focus=False)
        scroll.border_title = f"Device{self._device}"
        running = TaskList(id="running")
        events, log = EventLog(id="device-events"), AgentLog(id="device-log")
        for panel in (running, events, log):
            panel.add_class("panel", "body")
        yield scroll
        yield running
        yield Container(events, log, id="lower")

    @property
    def selection(self) -> Selection:
        """This device, its channel if it serves only one, and the running task under the cursor."""
        task = self.query_one(TaskList).selected
        return Selection(
            self._device, self._channel, task=None if task is None or not task.id else (task.channel, task.id)
        )

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show the device in the snapshot."""
        device = next((d for d in snapshot.devices if d.id == self._device), None)
        facts = self.query_one(Facts)
        if device is None:
            facts.show([("device", f"Device{self._device} is no longer in the grid", "$text-error")])
            return
        served = served_numbers(device.channels, len(snapshot.channels))
        self._channel = served[0] if len(served) == 1 else None
        facts.show(
            [*_facts(device, self.host.device_trend, snapshot.now_ms), *_job(device, snapshot)],
            columns=2,
            whole="serves",
        )
        running = self.query_one(TaskList)
        running.show(device.tasks)
        more = device.running - len(device.tasks)
        title = f"{device.running:,} running" + (f", {more:,} of them not listed" if more > 0 else "")
        retitle(running, f"Tasks: {title}" if device.running else "Tasks: none runs")
        if device.log_file != self._log_file:
            self._log_file = device.log_file
            self.query_one(AgentLog).border_subtitle = Content(safe_str(device.log_file, 200))
        source = f"Device{self._device}"
        events = self.query_one(EventLog)
        events.show([e for e in snapshot.events if e.source == source])
        match = (
            f"  {len(events.shown):,} match /{safe_str(self._filter_text, 30)}"
            if self._filter_text.strip()
            else ""
        )
        retitle(events, f"Events ({zone(snapshot.now_ms)}){match}")
        self.peek_soon()

    @on(TaskList.Highlighted)
    def _task_selected(self) -> None:
        self.selection_changed()

    @on(TaskList.Opened)
    def open_task(self, event: TaskList.Opened) -> None:
        """Open the running task under the cursor."""
        if (task := self.query_one(TaskList).selected) is not None:
            self.app.push_screen(TaskScreen(self._device, task))

    def peek(self) -> tuple[Said, ...]:
        """Return the last lines of the agent's log and of its tasks."""
        backend = self.host.backend
        return merged(backend.device_log(self._device), backend.task_lines(self._device))

    def show_peeked(self, result: tuple[Said, ...]) -> None:
        """Show the last lines."""
        log = self.query_one(AgentLog)
        if result != self._log or not log.border_title:
            self._log = result
            self._show_log()

    def current_filter(self) -> str:
        """Return the filter in effect."""
        return self._filter_text

    def filter_by(self, filter_text: str) -> None:
        """Filter the events and the log."""
        self._filter_text = filter_text
        self.query_one(EventLog).filter_by(filter_text)
        self._show_log()
        if self.host.snapshot is not None:
            self.show(self.host.snapshot, self.host.trend)

    def action_clear_or_back(self) -> None:
        """Remove the filter, or close the screen if there is none."""
        if self._filter_text.strip():
            self.clear_filter()
        else:
            self.app.pop_screen()

    def _show_log(self) -> None:
        log = self.query_one(AgentLog)
        if self._filter_text.strip():
            fits = matcher(self._filter_text)
            shown = tuple(line for line in self._log if fits(said_text(line).casefold()))
            log.border_title = (
                f"Agent log and lines of tasks: {len(shown):,} match /{safe_str(self._filter_text, 30)}"
            )
        else:
            shown = self._log
            log.border_title = "Agent log and lines of tasks (UTC)" if shown else "Agent log: empty"
        log.show_lines(shown)


def _job(device: DeviceView, snapshot: Snapshot) -> list[Fact]:
    """Return which version of the job the device runs, the server's if that is another one, and whether it changed."""
    facts: list[Fact] = []
    if is_other(device, snapshot) and snapshot.server is not None:
        facts.append(("job", f"{device.job[:SHORT]}, server {snapshot.server.job[:SHORT]}", "$text-warning"))
    elif device.job:
        facts.append(("job", device.job[:SHORT], ""))
    if device.job_changed:
        facts.append(("job file", "changed: restart_one loads it", "$text-warning"))
    return facts


def _facts(device: DeviceView, trend: DeviceTrend, now_ms: int) -> list[Fact]:
    state, fault = device_state(device, trend.rate(device.id)), trend.fault(device)
    fault_text = f", {fault}" if fault in ("slow", "failing") else ""
    new_errors = trend.new_errors(device.id)
    errors = f"{device.errors:,}" + (f"  +{new_errors:,} in 1 min" if new_errors else "")
    process = f"{device.host}:{device.pid}" if device.host else "no agent"
    served = channel_names(device.channels) if device.seen_s is not None else "no channel yet"
    versions = f"{device.version or 'unknown'}" + (f", Python {device.python}" if device.python else "")
    longest = f"for {span(device.current_s)}" if device.running else "no task runs"
    running = f"{device.running:,}" + (f" of {device.concurrency:,} at a time" if device.concurrency else "")
    return [
        ("state", f"{state.text}{fault_text}", TONES["warn" if fault_text else state.tone]),
        ("desired", device.desired, "$text-warning" if device.desired != device.state else ""),
        ("seen", seen_text(device.seen_s), ""),
        ("running", running, ""),
        ("longest", longest, "$text-warning" if fault == "slow" else ""),
        ("rate", rate_text(trend.rate(device.id)), ""),
        ("done", f"{device.done:,}", ""),
        ("errors", errors, TONES["bad"] if new_errors else "$text-warning" if device.errors else ""),
        ("serves", served, ""),
        ("agent", process, ""),
        ("agent since", when(device.since_ms, now_ms) if device.since_ms else "never", ""),
        ("versions", versions, ""),
        ("actor", device.actor or "none", ""),
    ]
