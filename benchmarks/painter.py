"""Draws bar charts as SVG: `painter.py FILE`, with the panels as JSON on stdin.

It needs matplotlib only, and nothing of this project.
"""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

MUTITASK, BARE_LOOP, PEER = "#1f6feb", "#9aa4b2", "#d0d7de"
panels = json.load(sys.stdin)
# Text stays text, so that the file is small and searchable. The fixed salt gives the same file for the same figures.
plt.rcParams.update(
    {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "mutitask"}
)
height = 0.6 + 0.26 * max(len(bars) for _, bars in panels)
figure, axes = plt.subplots(1, len(panels), figsize=(4.9 * len(panels), height), squeeze=False)
for axis, (title, bars) in zip(axes[0], panels, strict=True):
    colours = [
        MUTITASK if bar[0].startswith("MutiTask") else BARE_LOOP if bar[0] == "bare loop" else PEER
        for bar in bars
    ]
    rows = range(len(bars))
    axis.barh(rows, [b[1] for b in bars], color=colours, height=0.7)
    spread = [[b[1] - b[2] for b in bars], [b[3] - b[1] for b in bars]]
    axis.errorbar(
        [b[1] for b in bars], rows, xerr=spread, fmt="none", ecolor="#57606a", elinewidth=0.8, capsize=2
    )
    axis.set_xscale("log")
    axis.set_xlim(min(b[2] for b in bars) / 2, max(b[3] for b in bars) * 4)
    axis.set_yticks(rows, [b[0] for b in bars])
    axis.invert_yaxis()
    for row, bar in zip(rows, bars, strict=True):
        axis.text(bar[3] * 1.15, row, f"{bar[1]:,.0f}", va="center", fontsize=8)
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
figure.tight_layout()
figure.savefig(sys.argv[1], facecolor="white", metadata={"Date": None, "Creator": None})
