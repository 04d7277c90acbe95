"""The dashboard: shows snapshots and sends commands. It does not know Redis."""

import os

# Textual's frame rate. After each frame a key waits for the second tick: 17 to 33 ms at Textual's default of 60 frames
# a second, 4 to 8 ms at 240. The dashboard draws only after a snapshot or a key, so the higher rate costs nothing.
os.environ.setdefault("TEXTUAL_FPS", "240")
