"""Writes `docs/benchmarks.md`, the part between its marks, and the chart, from what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import chart, store, tables
from benchmarks.goals import goals

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write() -> list[str]:
    """Write both; the files that were written."""
    kept = store.load()
    if not kept.get("parts"):
        return []
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} has lost its marks {BEGIN} and {END}: put them back")
    PAGE.write_text(f"{head}{BEGIN}\n\n{measured(kept)}\n{END}{tail}")
    return [str(PAGE), *chart.draw(kept["parts"])]


def measured(kept: dict[str, Any]) -> str:
    """The generated part."""
    parts = kept["parts"]
    pieces = [where(parts), goals_table(parts)]
    pieces += [
        piece for name, of in tables.TABLES.items() if name in parts for piece in of(parts[name]["rows"])
    ]
    pieces.append(versions(kept))
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def where(parts: dict[str, Any]) -> str:
    """The machine, and how long ago."""
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
    """What was to be reached."""
    words = {True: "yes", False: "**no**", None: ""}
    rows = [[goal.text, goal.figure, words[goal.reached]] for goal in goals(parts)]
    return "### Goals\n\n" + tables.table(["goal", "figure", "reached"], rows, text=1)


def versions(kept: dict[str, Any]) -> str:
    """What was measured, in which setting."""
    rows = []
    for label, peer in sorted(kept.get("peers", {}).items(), key=lambda pair: str(pair[0]).lower()):
        have = peer["versions"]
        names = [name for name in have if name.lower() in NAMED]
        told = ", ".join(f"{name} {have[name]}" for name in names)
        rows.append([label, peer["setting"], f"{told}, Python {have['python']}"])
    text = "### Peers\n\n" + tables.table(["peer", "setting", "versions"], rows, text=3)
    for label, why in kept.get("missing", {}).items():
        text += f"\n\n{label} is missing: {why}."
    return text


NAMED = {
    "ardiq", "huey", "taskiq", "taskiq-redis", "dramatiq", "saq", "arq", "streaq", "celery", "kombu", "rq",
    "distributed", "redis", "hiredis", "coredis", "uvloop",
}  # fmt: skip
