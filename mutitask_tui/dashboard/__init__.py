"""The dashboard: a view of Snapshots and a sender of commands. It knows no Redis."""

import os

# Textual draws at most so often a second, and after each drawing a key waits for the second tick from then: 17 to 33 ms
# at its own 60, 4 to 8 ms at 240. What is drawn comes from four snapshots a second and from keys, and costs no more.
os.environ.setdefault("TEXTUAL_FPS", "240")
