"""The header: the namespace and its health, then the progress and the server."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from mutitask_tui.dashboard.formats import Field, keep_fields, rate_text, short_count, span, sparkline
from mutitask_tui.dashboard.model.eta import whole_eta
from mutitask_tui.dashboard.model.health import DeviceCounts, assess_health, count_devices
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.dashboard.model.trend import Trend
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.snapshot import Snapshot

FAINT = "$foreground 55%"
"""Faint text. Textual's `Content` styles do not know `$text-muted`."""

TONES: dict[Tone, str] = {
    "good": "$text-success",
    "calm": "$text-primary",
    "warn": "$text-warning",
    "bad": "bold $text-error",
    "faint": FAINT,
}
"""The `Content` style of each tone."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all channels."""

    done: int
    failed: int
    open: int
    """Tasks that are waiting, claimed or delayed."""


class Header(Static):
    """Show the summary of a snapshot on two lines at the top of every screen."""

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
        """Draw again: a wider header shows more fields."""
        self._draw()

    def _draw(self) -> None:
        if self._shown is None:
            self.update(Content.styled(" MutiTask  waiting for Redis …", FAINT))
            return
        snapshot, trend = self._shown
        width = self.size.width
        lines = [_identity_line(snapshot, trend, width), _progress_line(snapshot, trend, width)]
        self.update(Content("\n").join(lines), layout=False)


def _identity_line(snapshot: Snapshot, trend: Trend, width: int) -> Content:
    health = assess_health(snapshot, trend)
    right = Content.styled(f"{safe_str(health.text, 60)} ", TONES[health.tone])
    up = span((snapshot.now_ms - snapshot.started_ms) / 1000)
    eta = _eta(snapshot, trend, width)
    fields: list[Field] = [
        (3, [(" MutiTask ", "bold $text-primary")]),
        (5, [(f" {safe_str(snapshot.name, 40)}", "bold")]),
        (4, eta),
        (2, [(f"  {safe_str(snapshot.redis, 60)}", "")]),
        (1, [(f"  up {up}", FAINT)] if width >= 110 or not eta else []),
    ]
    return _justify(fields, right, width)


def _eta(snapshot: Snapshot, trend: Trend, width: int) -> list[tuple[str, str]]:
    """Return the share of settled tasks and the ETA, or nothing if the total is unknown."""
    eta = whole_eta(snapshot, trend)
    if eta is None:
        return []
    words = [(f"  {eta.share_text}", "bold $text-primary"), (f" {eta.text}" if eta.text else "", "")]
    return [*words, (f", {eta.at_text}", "")] if eta.text and width >= 110 else words


def _progress_line(snapshot: Snapshot, trend: Trend, width: int) -> Content:
    totals = Totals(
        sum(c.done for c in snapshot.channels),
        sum(c.failed for c in snapshot.channels),
        sum(c.open for c in snapshot.channels),
    )
    new_fails = trend.new_fails()
    failed_style = "bold $text-error" if new_fails else ("$text-warning" if totals.failed else "")
    fields: list[Field] = [(6, [(f" {rate_text(trend.total_rate())}", "bold")])]
    if width >= 110:
        points = sparkline(trend.all_points(), 20 if width < 160 else 40)
        fields.append((1, [(f" {points}", "$text-primary")]))
    exact = 100_000 if width >= 110 else 10_000
    fields.append((7, [("  done ", FAINT), (short_count(totals.done, exact), "")]))
    more = [(f" +{short_count(new_fails)}", "bold $text-error")] if new_fails else []
    fields.append((8, [("  failed ", FAINT), (short_count(totals.failed, exact), failed_style), *more]))
    fields.append((4, [("  open ", FAINT), (short_count(totals.open, exact), "")]))
    balance = ("  ✓ balanced", "$text-success") if snapshot.balanced else ("  ✗ NOT BALANCED", TONES["bad"])
    fields.append((3 if snapshot.balanced else 9, [balance]))
    fields.append((5, _devices(count_devices(snapshot), wide=width >= 150)))
    return _justify(fields, _server(snapshot, width), width)


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


def _justify(fields: list[Field], right: Content, width: int) -> Content:
    """Return one line with `fields` at the left and `right` at the right edge.

    Fields that do not fit are left out, the least important first.
    """
    room = max(0, width - right.cell_length)
    left = Content.assemble(*(keep_fields(fields, room - 1) or fields[0][1]))
    if left.cell_length > room:
        left = left.truncate(max(0, room - 1), ellipsis=True)
    return Content.assemble(left, " " * (room - left.cell_length), right)
