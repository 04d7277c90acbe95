"""Stores what a run measured.

The raw rows of each part go to `benchmarks/.results/`, which git ignores. `benchmarks/summary.json` keeps what the
page and its chart need: for each part the summarized rows, the time and the machine.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import summary
from benchmarks.plan import Plan
from benchmarks.systems import versions
from mutitask_tui.embedded.start import find_binary

SUMMARY = Path(__file__).with_name("summary.json")
RESULTS = Path(__file__).with_name(".results")


def load() -> dict[str, Any]:
    """Return the summary of all parts."""
    stored: dict[str, Any] = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    return stored


def save(part: str, rows: list[dict[str, Any]], plan: Plan, missing: dict[str, str], took_s: float) -> Path:
    """Write the raw rows of a part to a new file, and replace the part in the summary.

    `missing` maps the label of each peer that was left out to the reason. Returns the file of the raw rows.
    """
    head = {
        "when": time.strftime("%Y-%m-%d %H:%M"), "seconds": round(took_s), "rounds": plan.rounds,
        "quick": plan.quick, "machine": machine(),
    }  # fmt: skip
    peers = {p.label: {"setting": p.setting, "versions": versions(p)} for p in plan.peers}
    RESULTS.mkdir(exist_ok=True)
    raw = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{part}.json"
    raw.write_text(json.dumps({**head, "peers": peers, "missing": missing, "rows": rows}, indent=1) + "\n")

    stored = load()
    stored.setdefault("parts", {})[part] = {**head, "rows": summary.summarize(part, rows)}
    stored.setdefault("peers", {}).update(
        {
            label: {**peer, "versions": summary.named_versions(peer["versions"])}
            for label, peer in peers.items()
        }
    )
    stored["missing"] = missing
    SUMMARY.write_text(summary.to_json(stored))
    return raw


def machine() -> dict[str, Any]:
    """Return what the benchmark runs on: processor, system, versions and load."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    version = subprocess.run([str(find_binary()), "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(), "valkey": version.stdout.split("v=")[1].split()[0],
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
