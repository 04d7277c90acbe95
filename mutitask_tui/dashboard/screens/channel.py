"""The screen of one channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Sparkline

from mutitask_tui.dashboard.formats import clock, fit, fit_end, rate_text, size_text, span, zone
from mutitask_tui.dashboard.keys.screen_bindings import CHANNEL_BINDINGS
from mutitask_tui.dashboard.model.eta import channel_eta
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.states import State, channel_state
from mutitask_tui.dashboard.model.trend import BUCKET_MS, Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.peeking import PeekingScreen
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import TONES
from mutitask_tui.dashboard.widgets.tail_view import Piece, PlainLines
from mutitask_tui.dashboard.widgets.titles import retitle
from mutitask_tui.server.snapshot import ChannelView, ResultView, Snapshot, WaitingTask, names_of
from mutitask_tui.server.troubles import unserved
from worker_agent.protocol.text import plural

_PEEK_COUNT = 100
"""How many waiting tasks and how many results are shown, at most."""

Peeked = tuple[tuple[WaitingTask, ...], tuple[ResultView, ...]]
"""The next waiting tasks and the last results."""


class ChannelScreen(PeekingScreen):
    """Show the counters, the feed, the rate, the waiting tasks and the results of a channel.

    The channel keys act on this channel.
    """

    AUTO_FOCUS = "#waiting"
    BINDINGS: ClassVar[list[BindingType]] = [*CHANNEL_BINDINGS]
    DEFAULT_CSS = """
    ChannelScreen {
        #facts-scroll { height: auto; max-height: 50%; scrollbar-size-vertical: 1; }
        #chart { height: auto; }
        Sparkline { height: 1; }
        &.-tall Sparkline { height: 5; }
        Sparkline > .sparkline--max-color { color: $primary; }
        Sparkline > .sparkline--min-color { color: $primary; }
        #peeks { height: 1fr; layout: vertical; }
        #waiting, #results { height: 1fr; }
        &.-wide #peeks, &.-normal #peeks { layout: horizontal; }
        &.-wide #waiting, &.-normal #waiting, &.-wide #results, &.-normal #results { width: 1fr; }
    }
    """

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel

    def body(self) -> Iterable[Widget]:
        """Create the facts, the chart of the rate, the waiting tasks and the results."""
        scroll = VerticalScroll(Facts(), id="facts-scroll", classes="panel body", can_focus=False)
        scroll.border_title = f"TaskChannel{self._channel}"
        waiting = PlainLines(_waiting_line, id="waiting")
        results = PlainLines(_result_line, id="results")
        for panel in (waiting, results):
            panel.add_class("panel", "body")
        yield scroll
        yield Vertical(Sparkline([]), id="chart", classes="panel body")
        yield Container(waiting, results, id="peeks")

    @property
    def selection(self) -> Selection:
        """This channel."""
        return Selection(channel=self._channel, only_channel=self._channel)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show the channel in the snapshot."""
        channel = next((c for c in snapshot.channels if c.id == self._channel), None)
        if channel is None:
            gone = f"TaskChannel{self._channel} no longer exists"
            self.query_one(Facts).show([("channel", gone, "$text-error")])
            return
        served = snapshot.server is not None
        full_width = 1 if channel.halted else 0
        without_device = any(c.id == self._channel for c in unserved(snapshot))
        facts = _facts(
            channel,
            trend,
            snapshot.now_ms,
            channel_state(channel, served=served, has_device=not without_device),
            snapshot.devices_of(self._channel),
        )
        self.query_one(Facts).show(facts, full_width=full_width, columns=2)
        chart = self.query_one(Sparkline)
        points = trend.points(self._channel)[-chart.size.width :]
        chart.data = [0.0] * (chart.size.width - len(points)) + points
        rate = rate_text(trend.rate(self._channel))
        retitle(self.query_one("#chart"), f"Rate {rate}, {BUCKET_MS // 1000} s per column")
        retitle(self.query_one("#waiting"), f"Next of {channel.waiting:,} waiting tasks")
        last = f"Last of {channel.results:,} waiting results ({zone(snapshot.now_ms)})"
        retitle(self.query_one("#results"), last)
        self.peek_soon()

    def peek(self) -> Peeked:
        """Read the next waiting tasks and the last results."""
        backend = self.host.backend
        waiting = tuple(backend.waiting_tasks(self._channel, _PEEK_COUNT))
        return waiting, tuple(backend.last_results(self._channel, _PEEK_COUNT))

    def show_peeked(self, result: Peeked) -> None:
        """Show the tasks and the results that `peek` read."""
        for name, items in zip(("#waiting", "#results"), result, strict=True):
            lines = self.query_one(name, PlainLines)
            if tuple(lines.shown) != items:
                lines.show_lines(items)

    def action_channel_fails(self) -> None:
        """Show the failed tasks of this channel."""
        self.app.push_screen(FailsScreen(self._channel))


def _waiting_line(task: WaitingTask, width: int) -> list[Piece]:
    run = f"run {task.attempt + 1}" if task.attempt else ""
    crashes = f"{task.crashes} crashed" if task.crashes else ""
    head = f" {f'#{task.number}':<8} "
    tail = "  ".join(filter(None, (run, crashes, size_text(task.size)))) + " "
    text = fit_end(safe_str(task.task, 400), width - len(head) - len(tail) - 1)
    return [(head, "who"), (f"{text} ", "info"), (tail, "warning" if crashes else "time")]


def _result_line(result: ResultView, width: int) -> list[Piece]:
    finished = clock(result.finished_ms) if result.finished_ms else " " * 8
    head, device = f" {finished} {f'#{result.number}':<8} ", f"{f'Device{result.device}':<9} "
    text = fit(safe_str(result.result, 400), width - len(head) - len(device))
    return [(head, "time"), (device, "who"), (text, "info")]


def _facts(
    channel: ChannelView, trend: Trend, now_ms: int, state: State, devices: Sequence[int]
) -> list[Fact]:
    balance = ("✓ balanced", "$text-success")
    if not channel.balanced:
        balance = ("✗ NOT BALANCED", TONES["bad"])
    feed = "exhausted" if channel.exhausted else "feeding" if channel.allotting else "not fed"
    eta = channel_eta(channel, trend, now_ms)
    total = "unknown" if channel.total is None else f"{channel.total:,}"
    if eta is not None:
        finish = (
            f"{eta.text.removeprefix('done ')} {eta.at_text}" if eta.text else "unknown (nothing settled)"
        )
        done = f"{finish}, {eta.share_text}"
    else:
        done = "all settled" if channel.exhausted and not channel.open else "unknown (no total)"
    oldest = "" if channel.oldest_s is None else f", the oldest for {span(channel.oldest_s)}"
    new = trend.new_fails(channel.id)
    failed = f"{channel.failed:,}" + (f"  +{new:,} in 1 min" if new else "")
    served_by = f"{plural(len(devices), 'device')}: {names_of('Device', devices)}" if devices else "no device"
    return [
        *([("halted by", channel.halted, TONES["bad"])] if channel.halted else []),
        ("state", state.text, TONES[state.tone]),
        ("generator", feed, ""),
        ("total tasks", total, ""),
        ("done when", done, "$text-primary" if eta is not None else ""),
        ("claims", "paused" if channel.paused else "open", "$text-warning" if channel.paused else ""),
        *([("limited", f"at most {channel.rate_limit}", "")] if channel.rate_limit else []),
        ("served by", served_by, "" if devices else "$text-warning"),
        ("capacity", f"{channel.capacity:,}", ""),
        ("waiting", f"{channel.waiting:,}{oldest}", ""),
        ("claimed", f"{channel.claimed:,}", ""),
        ("delayed", f"{channel.delayed:,}", ""),
        ("done", f"{channel.done:,}", ""),
        ("failed", failed, TONES["bad"] if new else "$text-warning" if channel.failed else ""),
        ("errors", f"{channel.errors:,}", "$text-warning" if channel.errors else ""),
        ("deleted", f"{channel.deleted:,}", ""),
        ("allotted", f"{channel.allotted:,}", ""),
        ("counters", *balance),
        ("foreign", f"{channel.foreign:,}", "$text-warning" if channel.foreign else ""),
        ("results", f"{channel.results:,} of {channel.results_max:,}", ""),
    ]
