"""The lines that an agent logged and that its tasks printed and logged, in the order of their times."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge

from mutitask_tui.dashboard.formats import fit, utc_clock, utc_stamp
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.dashboard.widgets.tail_view import Piece, TailView
from worker_agent.protocol.task_line import TaskLine

Said = str | TaskLine
"""A line of the agent's log, which starts with its time, or a line of a task."""

_LINE_CHARACTERS = 1_000


class SaidLines(TailView[Said]):
    """Show lines of an agent's log and of its tasks. The newest is at the end."""

    def __init__(self, *, numbers: bool = True, id: str | None = None) -> None:
        """Create the view. With `numbers`, each line of a task starts with its channel and number."""
        super().__init__(id=id)
        self._numbers = numbers

    def pieces(self, item: Said, width: int) -> list[Piece]:
        """Return the line in the colour of its level."""
        if isinstance(item, TaskLine):
            time = f" {utc_clock(item.at_ms)} "
            who = f"{task_name(item)} " if self._numbers else ""
            text = safe_str(item.text, _LINE_CHARACTERS)
            return [
                (time, "time"),
                (who, "who"),
                (fit(text, width - len(time) - len(who)), _level(item.text)),
            ]
        return [(fit(f" {safe_str(item, 600)}", width), _level(item.partition(" ")[2].partition(" ")[2]))]


def merged(log: Sequence[str], lines: Sequence[TaskLine]) -> tuple[Said, ...]:
    """Return both in the order of their times."""
    if not lines:
        return tuple(log)
    return tuple(merge(log, lines, key=_stamp))


def said_text(item: Said) -> str:
    """Return a line as a filter sees it."""
    return item if isinstance(item, str) else f"{utc_stamp(item.at_ms)} {task_name(item)} {item.text}"


def task_name(line: TaskLine) -> str:
    """Return the channel and the number of the line's task: `ch0 #123`."""
    digits = line.id[8:]
    return f"ch{line.channel} #{int(digits) if digits.isascii() and digits.isdigit() else '?'}"


def _stamp(item: Said) -> str:
    return item[:19] if isinstance(item, str) else utc_stamp(item.at_ms)


def _level(text: str) -> str:
    """Return the style of a text that starts with the name of its level."""
    if text.startswith(("ERROR", "CRITICAL")):
        return "error"
    return "warning" if text.startswith("WARNING") else "info"
