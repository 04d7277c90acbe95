"""What was measured, kept as JSON beside the benchmark: each part with its own time, machine and versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from benchmarks.systems import versions
from mutitask_tui.embedded.binary import find_binary

PLACE = Path(__file__).with_name("results.json")


def load() -> dict[str, Any]:
    """All that is kept."""
    kept: dict[str, Any] = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    return kept


def keep(part: str, rows: list[dict[str, Any]], plan: Plan, missing: dict[str, str], took: float) -> None:
    """Keep a part in place of what was kept of it."""
    kept = load()
    kept.setdefault("parts", {})[part] = {
        "when": time.strftime("%Y-%m-%d %H:%M"), "seconds": round(took), "rounds": plan.rounds,
        "quick": plan.quick, "machine": machine(), "rows": rows,
    }  # fmt: skip
    if plan.peers:
        kept.setdefault("peers", {}).update(
            {p.label: {"setting": p.setting, "versions": versions(p)} for p in plan.peers}
        )
    kept["missing"] = missing
    PLACE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    told = subprocess.run([str(find_binary()), "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(), "valkey": told.stdout.split("v=")[1].split()[0],
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
