"""Writes the generated part of `docs/benchmarks.md` and its chart from `benchmarks/summary.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import chart, store, tables
from benchmarks.goals import goals

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write() -> list[str]:
    """Write the page and the chart. Return the names of the written files."""
    summary = store.load()
    if not summary.get("parts"):
        return []
    PAGE.write_text(page(summary))
    return [str(PAGE), *chart.draw(summary["parts"])]


def page(summary: dict[str, Any]) -> str:
    """Return the page with the generated part of this summary."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} has lost its marks {BEGIN} and {END}: restore them")
    return f"{head}{BEGIN}\n\n{measured(summary)}\n{END}{tail}"


def measured(summary: dict[str, Any]) -> str:
    """Return the generated part of the page."""
    parts = summary["parts"]
    pieces = [conditions(parts), goals_table(parts)]
    pieces += [
        piece for name, of in tables.TABLES.items() if name in parts for piece in of(parts[name]["rows"])
    ]
    pieces.append(versions(summary))
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def conditions(parts: dict[str, Any]) -> str:
    """Return when, on which machine and for how long the figures were measured."""
    newest = max(parts.values(), key=lambda part: part["when"])
    machine = newest["machine"]
    quick = " Parts of it are from a quick run." if any(part["quick"] for part in parts.values()) else ""
    rounds = sorted({part["rounds"] for part in parts.values()})
    minutes = sum(part["seconds"] for part in parts.values()) / 60
    return (
        f"Measured {newest['when']} on {machine['cores']} cores ({machine['cpu']}), {machine['system']}, "
        f"Python {machine['python']}, Valkey {machine['valkey']}; rounds: {' and '.join(map(str, rounds))}; "
        f"{minutes:.0f} minutes in all.{quick}\n\n"
        "![No-ops and feeding, tasks a second](benchmarks.svg)"
    )


def goals_table(parts: dict[str, Any]) -> str:
    """Return the table of the goals."""
    words = {True: "yes", False: "**no**", None: ""}
    rows = [[goal.text, goal.figure, words[goal.reached]] for goal in goals(parts)]
    return "### Goals\n\n" + tables.table(["goal", "figure", "reached"], rows, text=1)


def versions(summary: dict[str, Any]) -> str:
    """Return the table of the peers, and the reasons for those that are missing."""
    rows = []
    for label, peer in sorted(summary.get("peers", {}).items(), key=lambda pair: str(pair[0]).lower()):
        installed = peer["versions"]
        names = sorted(installed.keys() - {"python"}, key=str.lower)
        packages = ", ".join(f"{name} {installed[name]}" for name in names)
        rows.append([label, peer["setting"], f"{packages}, Python {installed['python']}"])
    text = "### Peers\n\n" + tables.table(["peer", "setting", "versions"], rows, text=3)
    for label, why in summary.get("missing", {}).items():
        text += f"\n\n{label} is missing: {why}."
    return text
