"""The two lines on top: whose tasks these are, how they go, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.formats import Field, keep_fields, rate_text, short_count, span, sparkline
from mutitask_tui.dashboard.model.eta import whole_eta
from mutitask_tui.dashboard.model.health import DeviceCounts, count_devices, judge
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.snapshot import Snapshot

FAINT = "$foreground 55%"
"""Faint text as a style of Textual's content, which does not know `$text-muted`."""

TONES: dict[Tone, str] = {
    "good": "$text-success",
    "calm": "$text-primary",
    "warn": "$text-warning",
    "bad": "bold $text-error",
    "faint": FAINT,
}
"""Each tone as a style of Textual's content."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums over all channels that the header shows."""

    done: int
    failed: int
    open: int


class Header(Static):
    """Shows a Snapshot's who, where, how long, how fast; nothing of it scrolls away."""

    DEFAULT_CSS = """
    Header {
        dock: top;
        height: 2;
        background: $panel;
        color: $foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._shown: tuple[Snapshot, Trend] | None = None

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        """Show this snapshot."""
        self._shown = (snapshot, trend)
        self._draw()

    def on_resize(self) -> None:
        """More room shows more."""
        self._draw()

    def _draw(self) -> None:
        if self._shown is None:
            self.update(Content.styled(" MutiTask  asking Redis …", FAINT))
            return
        snapshot, trend = self._shown
        width = self.size.width
        lines = [_who(snapshot, trend, width), _how(snapshot, trend, width)]
        self.update(Content("\n").join(lines), layout=False)


def _who(snapshot: Snapshot, trend: Trend, width: int) -> Content:
    verdict = judge(snapshot, trend)
    right = Content.styled(f"{safe_str(verdict.text, 60)} ", TONES[verdict.tone])
    up = span((snapshot.now_ms - snapshot.started_ms) / 1000)
    eta = _eta(snapshot, trend, width)
    fields: list[Field] = [
        (3, [(" MutiTask ", "bold $text-primary")]),
        (5, [(f" {safe_str(snapshot.name, 40)}", "bold")]),
        (4, eta),
        (2, [(f"  {safe_str(snapshot.redis, 60)}", "")]),
        (1, [(f"  up {up}", FAINT)] if width >= 110 or not eta else []),
    ]
    return _spread(fields, right, width)


def _eta(snapshot: Snapshot, trend: Trend, width: int) -> list[tuple[str, str]]:
    """How far it is and when it will be done, where that is known."""
    eta = whole_eta(snapshot, trend)
    if eta is None:
        return []
    words = [(f"  {eta.share_text}", "bold $text-primary"), (f" {eta.text}" if eta.text else "", "")]
    return [*words, (f", {eta.at_text}", "")] if eta.text and width >= 110 else words


def _how(snapshot: Snapshot, trend: Trend, width: int) -> Content:
    totals = Totals(
        sum(c.done for c in snapshot.channels),
        sum(c.failed for c in snapshot.channels),
        sum(c.open for c in snapshot.channels),
    )
    grown = trend.new_fails()
    failed_style = "bold $text-error" if grown else ("$text-warning" if totals.failed else "")
    fields: list[Field] = [(6, [(f" {rate_text(trend.total_rate())}", "bold")])]
    if width >= 110:
        points = sparkline(trend.all_points(), 20 if width < 160 else 40)
        fields.append((1, [(f" {points}", "$text-primary")]))
    exact = 100_000 if width >= 110 else 10_000
    fields.append((7, [("  done ", FAINT), (short_count(totals.done, exact), "")]))
    more = [(f" +{short_count(grown)}", "bold $text-error")] if grown else []
    fields.append((8, [("  failed ", FAINT), (short_count(totals.failed, exact), failed_style), *more]))
    fields.append((4, [("  open ", FAINT), (short_count(totals.open, exact), "")]))
    books = ("  ✓ books", "$text-success") if snapshot.balanced else ("  ✗ NOT BALANCED", TONES["bad"])
    fields.append((3 if snapshot.balanced else 9, [books]))
    fields.append((5, _devices(count_devices(snapshot), wide=width >= 150)))
    return _spread(fields, _server(snapshot, width), width)


def _devices(counts: DeviceCounts, *, wide: bool) -> list[tuple[str, str]]:
    words = (" running", " paused", " offline") if wide else ("", "", "")
    return [
        (f"  ● {counts.running}{words[0]}", "$text-success" if counts.running else FAINT),
        (f"  ‖ {counts.paused}{words[1]}", "$text-warning" if counts.paused else FAINT),
        (f"  ✗ {counts.offline}{words[2]}", TONES["bad"] if counts.gone else FAINT),
    ]


def _server(snapshot: Snapshot, width: int) -> Content:
    server, wide = snapshot.server, width >= 100
    if server is None:
        return Content.styled("no server ", TONES["bad"])
    if snapshot.channels and all(channel.exhausted for channel in snapshot.channels):
        feed = ("■ all allotted " if wide else "■ all fed ", "$text-primary")
    elif server.allotting:
        feed = ("▶ allotting " if wide else "▶ fed ", "$text-success")
    else:
        feed = ("‖ not allotting " if wide else "‖ not fed ", "$text-warning")
    where = f"{safe_str(server.host, 30)}:{server.pid} " if wide else ""
    return Content.assemble(feed, (where, FAINT))


def _spread(fields: list[Field], right: Content, width: int) -> Content:
    """Both on one line, `right` flush with the edge; `fields` give way, the least important first."""
    room = max(0, width - right.cell_length)
    left = Content.assemble(*(keep_fields(fields, room - 1) or fields[0][1]))
    if left.cell_length > room:
        left = left.truncate(max(0, room - 1), ellipsis=True)
    return Content.assemble(left, " " * (room - left.cell_length), right)
