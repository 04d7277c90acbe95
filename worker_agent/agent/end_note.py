"""The end note: a file in which an agent notes its progress for the process that started it."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

END_NOTE_VARIABLE = "MUTITASK_ENDED_NOTE"
"""The environment variable that names the file. Without it no note is written.

The file holds nothing before the agent has its device, then `joined`. At the end it holds `ended` if the agent ended
by itself, or `stopped` if it was asked not to wait for its running tasks. If a task ended the process, it still holds
`joined`. An agent that restarts empties it.
"""


LOG_FILE_VARIABLE = "MUTITASK_LOG_FILE"
"""The environment variable by which that process tells the file in which the agent's output ends."""


def write_end_note(progress: Literal["", "joined", "stopped", "ended"]) -> None:
    """Note the agent's progress, if the process that started it asked for a note."""
    if path := os.environ.get(END_NOTE_VARIABLE):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(handle, progress.encode())
            os.close(handle)
