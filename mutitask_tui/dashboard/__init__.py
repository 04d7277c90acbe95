"""The dashboard: a view of Snapshots and a sender of commands. It knows no Redis."""

import os

# Textual draws at most so often a second, and a key waits for two such ticks: at its own 60 a key took 44 ms until
# it was painted, at 120 it takes 25. What is drawn comes from four snapshots a second and from keys: it costs nothing.
os.environ.setdefault("TEXTUAL_FPS", "120")
