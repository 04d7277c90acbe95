"""What the commands that print JSON lines share: the check of the channel, and the encoding."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutitask_tui.server.reader import Reader


def check_channel(reader: Reader, channel: int | None) -> int:
    """Return the number of channels. Raises `JobError` if `channel` is not one of them."""
    from worker_agent.protocol.errors import JobError

    count = reader.channels()
    if channel is not None and channel >= count:
        raise JobError(f"there is no channel {channel}; the channels are 0 to {count - 1}")
    return count


def write_utf8() -> None:
    """Make stdout write UTF-8, the encoding of JSON lines, whatever the terminal's encoding is."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
