"""A channel in one line: its name and state, and of its figures those that the width allows."""

from __future__ import annotations

from mutitask_tui.dashboard.formats import fill_bar, fit, rate_text, short_count, span
from mutitask_tui.dashboard.model.channel_order import ChannelRow
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.cell_grid import Piece
from worker_agent.protocol.text import plural

_NAME = 15
_STATE = 12
_WITH_WORD = 36
"""From this width on every state has its word. Below it only a state that needs attention has it."""
_LEVEL = 11
_VALUE = 11
_BAR_FROM = 62
"""From this width on a line shows the fill level as a bar too."""


def dense_line(row: ChannelRow, width: int, column: str) -> list[Piece]:
    """Return the line. `column` is the sort column, whose value stands in the line."""
    channel = row.view
    name = f" {f'TaskChannel{row.id}':<{_NAME - 2}} "
    failed = f" ✗{short_count(channel.failed)}" if channel.failed else ""
    new = f" +{short_count(row.new_fails)}" if row.new_fails else ""
    text, tone = ("✗ NOT BALANCED", "loud") if not channel.balanced else (row.state_text, row.state.tone)
    room = width - len(name) - len(failed) - len(new)
    if row.note and len(text) > room:
        text = text[2:]  # The rate says more than the glyph.
    state = _state(text, width, room, needs_word=tone not in ("good", "calm") or bool(row.note))
    room -= len(state)
    middle = _middle(row, room - _VALUE) if width >= _BAR_FROM else []
    room -= sum(len(part) for part, _ in middle)
    value = _value(row, column)
    value = value if len(value) < room else ""
    return [
        (name, "title"), (state, tone), *middle, (fit(value, room, right=True), "text" if row.rate else "faint"),
        (failed, "warn"), (new, "bad"),
    ]  # fmt: skip


def _state(text: str, width: int, room: int, *, needs_word: bool) -> str:
    """Return the state in the width that it has in every line of the list, or wider if it has to be read."""
    if width >= _WITH_WORD:
        return fit(text, min(room, max(_STATE, len(text) + 1)))
    if not needs_word:
        return f"{text[:1]} "
    return fit(text, min(room, len(text) + 1))


def _middle(row: ChannelRow, room: int) -> list[Piece]:
    """Return the fill level, or why the channel has halted."""
    channel = row.view
    if channel.halted:
        return [(fit(safe_str(channel.halted, 300), room), "bad")]
    above_capacity = channel.waiting > channel.capacity
    full, empty = fill_bar(channel.waiting, channel.capacity, max(0, room - _LEVEL))
    level = fit(f" {short_count(channel.waiting)}/{short_count(channel.capacity)}", min(room, _LEVEL))
    tone = "warn" if above_capacity else "calm"
    return [(full, tone), (empty, "faint"), (level, "warn" if above_capacity else "text")]


def _value(row: ChannelRow, column: str) -> str:
    """Return the one value of a line: that of the sort column, or the rate."""
    channel = row.view
    if column == "waiting":
        return f"{short_count(channel.waiting)}/{short_count(channel.capacity)}"
    if column == "age":
        return "none waits" if channel.oldest_s is None else span(channel.oldest_s)
    if column == "done":
        return short_count(channel.done)
    if column == "errors":
        return short_count(channel.errors)
    if column == "devices":
        return plural(row.devices, "device")
    return rate_text(row.rate)
