"""All that is known of one channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Sparkline

from mutitask_tui.dashboard.bindings import screen_bindings
from mutitask_tui.dashboard.formats import rate_text
from mutitask_tui.dashboard.screens.fails import FailsScreen
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.selection import Selection
from mutitask_tui.dashboard.states import channel_state
from mutitask_tui.dashboard.trend import BUCKET_MS, Trend
from mutitask_tui.dashboard.widgets.facts import Fact, Facts
from mutitask_tui.dashboard.widgets.header import TONES
from mutitask_tui.server.snapshot import ChannelView, Snapshot


class ChannelScreen(FrameScreen):
    """One channel's books, its feed and its rate; the channel keys act on it."""

    AUTO_FOCUS = "#facts-scroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        *screen_bindings("Channel", "Max", "Skip"),
        Binding("F", "its_fails", "Its fails"),
    ]
    DEFAULT_CSS = """
    ChannelScreen {
        #facts-scroll { height: 1fr; scrollbar-size-vertical: 1; }
        #chart { height: auto; }
        Sparkline { height: 3; }
        &.-tall Sparkline { height: 8; }
        Sparkline > .sparkline--max-color { color: $primary; }
        Sparkline > .sparkline--min-color { color: $primary; }
    }
    """

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel

    def body(self) -> Iterable[Widget]:
        """The facts, and the rate of the last minutes."""
        scroll = VerticalScroll(Facts(), id="facts-scroll", classes="panel body")
        scroll.border_title = f"TaskChannel{self._channel}"
        yield scroll
        chart = Vertical(Sparkline([]), id="chart", classes="panel body")
        yield chart

    @property
    def selection(self) -> Selection:
        """This channel."""
        return Selection(channel=self._channel, only_channel=self._channel)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show the channel as it is now."""
        channel = next((c for c in snapshot.channels if c.id == self._channel), None)
        if channel is None:
            gone = f"TaskChannel{self._channel} is not there any more"
            self.query_one(Facts).show([("channel", gone, "$text-error")])
            return
        self.query_one(Facts).show(_facts(channel, served=snapshot.server is not None))
        chart = self.query_one(Sparkline)
        points = trend.points(self._channel)[-chart.size.width :]
        chart.data = [0.0] * (chart.size.width - len(points)) + points
        rate = rate_text(trend.rate(self._channel))
        self.query_one("#chart").border_title = f"Rate {rate}, {BUCKET_MS // 1000} s a column"

    def action_its_fails(self) -> None:
        """The failed tasks of this channel alone."""
        self.app.push_screen(FailsScreen(self._channel))


def _facts(channel: ChannelView, *, served: bool) -> list[Fact]:
    state = channel_state(channel, served=served)
    balance = ("✓ the books balance", "$text-success")
    if not channel.balanced:
        balance = ("✗ THE BOOKS DO NOT BALANCE", TONES["bad"])
    feed = "exhausted" if channel.exhausted else "feeding" if channel.allotting else "not fed"
    return [
        ("state", state.text, TONES[state.tone]),
        ("halted by", channel.halted or "nothing", TONES["bad"] if channel.halted else ""),
        ("generator", feed, ""),
        ("claims", "paused" if channel.paused else "open", "$text-warning" if channel.paused else ""),
        ("capacity", f"{channel.capacity:,}", ""),
        ("waiting", f"{channel.waiting:,}", ""),
        ("claimed", f"{channel.claimed:,}", ""),
        ("delayed", f"{channel.delayed:,}", ""),
        ("done", f"{channel.done:,}", ""),
        ("failed", f"{channel.failed:,}", "$text-warning" if channel.failed else ""),
        ("deleted", f"{channel.deleted:,}", ""),
        ("allotted", f"{channel.allotted:,}  {balance[0]}", balance[1]),
        ("foreign", f"{channel.foreign:,}", "$text-warning" if channel.foreign else ""),
        ("results", f"{channel.results:,} of at most {channel.results_max:,} wait to be drained", ""),
    ]
