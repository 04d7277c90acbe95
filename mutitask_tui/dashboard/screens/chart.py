"""The last hour as curves: how fast, how full, how many failed, for one channel or for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget

from mutitask_tui.dashboard.formats import rate_text, short_count
from mutitask_tui.dashboard.keys.screen_bindings import CHART_BINDINGS
from mutitask_tui.dashboard.model.history import History, Series
from mutitask_tui.dashboard.model.selection import Selection
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.screens.frame import FrameScreen
from mutitask_tui.dashboard.widgets.chart import Chart
from mutitask_tui.dashboard.widgets.header import FAINT
from mutitask_tui.dashboard.widgets.titles import retitle
from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.settings.options import CHART_MINUTES
from worker_agent.protocol.pristine import time
from worker_agent.protocol.words import plural


class ChartScreen(FrameScreen):
    """Three charts over the same stretch of time; arrow keys choose the channel and the stretch."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*CHART_BINDINGS]
    DEFAULT_CSS = """
    ChartScreen {
        #fails { height: 1fr; }
        #rate { height: 2fr; }
        #fill { height: 1fr; }
        &.-tall #fails { height: 2fr; }
        &.-tall #rate { height: 3fr; }
        &.-tall #fill { height: 2fr; }
        Chart { border-title-color: $foreground; }
    }
    """

    def __init__(self, history: History, channel: int | None = None) -> None:
        """`channel` is the one to begin with; None: all together."""
        super().__init__()
        self._history = history
        self._channel = channel
        self._chosen: int | None = None
        """The stretch that a person chose here, in minutes."""

    def body(self) -> Iterable[Widget]:
        """The three charts."""
        for chart in (
            Chart("rate", rate_text, min_top=1.0, id="rate"),
            Chart("fill", _percent, min_top=100.0, id="fill"),
            Chart("fails", _each_minute, min_top=1.0, id="fails"),
        ):
            chart.add_class("panel", "body")
            yield chart

    @property
    def selection(self) -> Selection:
        """The channel whose charts are shown."""
        return Selection(channel=self._channel, only_channel=self._channel)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Draw what has come."""
        if self._channel is not None and self._channel >= len(snapshot.channels):
            self._channel = None
        self._draw()

    def on_resize(self) -> None:
        """More room shows more."""
        self.call_after_refresh(self._draw)

    def action_channel(self, step: int) -> None:
        """The next channel, or the one before; all together lie between the last and the first."""
        count = self._history.channels
        place = count if self._channel is None else self._channel
        place = (place + step) % (count + 1)
        self._channel = None if place == count else place
        self._draw()
        self.selection_changed()

    def action_zoom(self, step: int) -> None:
        """A longer stretch, or a shorter one."""
        place = CHART_MINUTES.index(self._minutes) + step
        if 0 <= place < len(CHART_MINUTES):
            self._chosen = CHART_MINUTES[place]
            self.host.save_preference("layout.chart_minutes", self._chosen)
            self._draw()

    @property
    def _minutes(self) -> int:
        """The shortest stretch that holds the whole run, and no longer one than was chosen last."""
        if self._chosen is not None:
            return self._chosen
        snapshot, longest = self.host.snapshot, self.host.preferences.config.layout.chart_minutes
        age_ms = 0 if snapshot is None else snapshot.now_ms - snapshot.started_ms
        return next((m for m in CHART_MINUTES if m >= longest or age_ms <= m * 60_000), longest)

    def _draw(self) -> None:
        rate = self.query_one("#rate", Chart)
        if not rate.size.width:
            return
        charts = self._history.charts(self._channel, self._minutes, rate.steps)
        name = "All channels" if self._channel is None else f"TaskChannel{self._channel}"
        stretch = f", {plural(self._minutes, 'minute')} ({time.strftime('%Z')})   "
        whose = Content.assemble((name, "bold $text-primary"), (stretch, FAINT))
        for id_, title, series, say in (
            ("rate", "Rate", charts.rate, rate_text),
            ("fill", "Waiting, of capacity", charts.fill, _percent),
            ("fails", "Failed for good", charts.fails, _each_minute),
        ):
            chart = self.query_one(f"#{id_}", Chart)
            chart.show(series, times=self.has_class("-tall") or id_ == "fails")
            titled = _title(title, series, say)
            retitle(chart, Content.assemble(whose, titled) if chart is rate else titled)


def _title(title: str, series: Series, say: Callable[[float], str]) -> Content:
    if series.newest is None:
        return Content.assemble(f"{title}  ", ("nothing was kept yet: a sample comes every 5 s", FAINT))
    return Content.assemble(f"{title}  ", (say(series.newest), "bold"), (f"   top {say(series.top)}", FAINT))


def _percent(value: float) -> str:
    return f"{value:.0f}%" if value < 10_000 else f"{short_count(round(value))}%"


def _each_minute(value: float) -> str:
    return f"{value:.1f}/min" if 0 < value < 10 else f"{short_count(round(value), 10_000)}/min"
