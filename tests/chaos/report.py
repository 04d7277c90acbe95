"""Format the rows as a Markdown table, and write the table of the long form into docs/reliability.md."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.scenarios import Row
from tests.support.programs import ROOT

PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- the table of `make chaos` begins -->", "<!-- and ends -->"
HEADS = (
    "fault", "times", "tasks allotted", "done", "failed", "lost", "recorded twice", "counters balanced",
    "longest pause", "remarks",
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    for row in rows:
        balanced = f"{'yes' if row.balanced else '**no**'}, {row.looks:,} snapshots"
        cells = [
            row.fault, f"{row.times:,}", f"{row.allotted:,}", f"{row.done:,}", f"{row.failed:,}", f"{row.lost:,}",
            f"{row.twice:,}", balanced, f"{row.pause_s:.1f} s", "; ".join(row.remarks),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def surroundings(command: str, took_s: float) -> str:
    """Return the line above the table: the command with its seed, the date and the machine."""
    return (
        f"`{command}` on {time.strftime('%Y-%m-%d')}: {took_s / 60:.0f} minutes on {os.cpu_count()} cores ("
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()})."
    )


def write(rows: Sequence[Row], about: str, page: Path = PAGE) -> None:
    """Write the table between the markers of the page."""
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{about}\n\n{table(rows)}\n{END}{tail}")
