"""Charts of the last hour: rate, fill level and failed tasks, of one channel or of all."""

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
from worker_agent.protocol.text import plural
from worker_agent.protocol.unpatched import time


class ChartScreen(FrameScreen):
    """Show three charts of the same time span. The arrow keys choose the channel and the time span."""

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
        """Create the screen. `channel` is the first channel to show; None shows all channels together."""
        super().__init__()
        self._history = history
        self._channel = channel
        self._chosen_minutes: int | None = None
        """The time span that the user chose on this screen, in minutes."""

    def body(self) -> Iterable[Widget]:
        """Create the three charts."""
        for chart in (
            Chart("rate", rate_text, min_top=1.0, id="rate"),
            Chart("fill", _percent, min_top=100.0, id="fill"),
            Chart("fails", _per_minute, min_top=1.0, id="fails"),
        ):
            chart.add_class("panel", "body")
            yield chart

    @property
    def selection(self) -> Selection:
        """The channel whose charts are shown."""
        return Selection(channel=self._channel, only_channel=self._channel)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Draw the charts."""
        if self._channel is not None and self._channel >= len(snapshot.channels):
            self._channel = None
        self._draw()

    def on_resize(self) -> None:
        """Draw again: wider charts show more values."""
        self.call_after_refresh(self._draw)

    def action_channel(self, step: int) -> None:
        """Show the next or the previous channel. All channels together come between the last and the first."""
        count = self._history.channels
        index = count if self._channel is None else self._channel
        index = (index + step) % (count + 1)
        self._channel = None if index == count else index
        self._draw()
        self.selection_changed()

    def action_zoom(self, step: int) -> None:
        """Choose a longer or a shorter time span."""
        index = CHART_MINUTES.index(self._minutes) + step
        if 0 <= index < len(CHART_MINUTES):
            self._chosen_minutes = CHART_MINUTES[index]
            self.host.save_preference("layout.chart_minutes", self._chosen_minutes)
            self._draw()

    @property
    def _minutes(self) -> int:
        """The chosen time span, or the shortest one that holds the whole run, but at most the preferred one."""
        if self._chosen_minutes is not None:
            return self._chosen_minutes
        snapshot, longest = self.host.snapshot, self.host.preferences.config.layout.chart_minutes
        age_ms = 0 if snapshot is None else snapshot.now_ms - snapshot.started_ms
        return next((m for m in CHART_MINUTES if m >= longest or age_ms <= m * 60_000), longest)

    def _draw(self) -> None:
        rate = self.query_one("#rate", Chart)
        if not rate.size.width:
            return
        charts = self._history.charts(self._channel, self._minutes, rate.steps)
        name = "All channels" if self._channel is None else f"TaskChannel{self._channel}"
        time_span = f", {plural(self._minutes, 'minute')} ({time.strftime('%Z')})   "
        prefix = Content.assemble((name, "bold $text-primary"), (time_span, FAINT))
        for id_, title, series, label in (
            ("rate", "Rate", charts.rate, rate_text),
            ("fill", "Waiting, of capacity", charts.fill, _percent),
            ("fails", "Failed for good", charts.fails, _per_minute),
        ):
            chart = self.query_one(f"#{id_}", Chart)
            chart.show(series, times=self.has_class("-tall") or id_ == "fails")
            title_content = _title(title, series, label)
            retitle(chart, Content.assemble(prefix, title_content) if chart is rate else title_content)


def _title(title: str, series: Series, label: Callable[[float], str]) -> Content:
    if series.newest is None:
        return Content.assemble(f"{title}  ", ("no samples yet: one is taken every 5 s", FAINT))
    return Content.assemble(
        f"{title}  ", (label(series.newest), "bold"), (f"   peak {label(series.top)}", FAINT)
    )


def _percent(value: float) -> str:
    return f"{value:.0f}%" if value < 10_000 else f"{short_count(round(value))}%"


def _per_minute(value: float) -> str:
    return f"{value:.1f}/min" if 0 < value < 10 else f"{short_count(round(value), 10_000)}/min"
