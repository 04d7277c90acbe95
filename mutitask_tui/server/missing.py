"""Which tasks are in no list any more, where a channel's books do not balance."""

from __future__ import annotations

from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import ChannelView
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.words import plural

MOST = 2_000_000
"""So many items are looked through at most: some 2 s for each million."""
_PAGE = 5_000


def missing(reader: Reader, channel: ChannelView) -> str:
    """One sentence on what is missing in a channel, or too much, with the items' numbers where the ids tell them."""
    gap = channel.missing
    name = f"TaskChannel{channel.id}"
    if gap < 0:
        return (
            f"{name}: {-gap:,} tasks more than were allotted are in its lists: another program has changed them; "
            "run these items again in a new namespace"
        )
    tasks_are = f"{plural(gap, 'task')} {'is' if gap == 1 else 'are'}"
    head = f"{name}: {tasks_are} missing: in no list any more, which no command of MutiTask does"
    return f"{head}; {_which(reader, channel, gap)}"


def _which(reader: Reader, channel: ChannelView, gap: int) -> str:
    if channel.results < channel.done or channel.deleted or channel.claimed or channel.foreign:
        return (
            f"they are among the items 0 to {channel.allotted - 1:,}, and which cannot be told: "
            "of tasks whose results were saved or drained, deleted or claimed no number is kept"
        )
    if channel.allotted > MOST:
        return f"they are among the items 0 to {channel.allotted - 1:,}"
    try:
        found = reader.item_numbers(channel.id, _PAGE)
        gone = sorted(set(range(channel.allotted)).difference(found))
    except MutiTaskError as error:
        return f"which ones could not be read ({error})"
    if len(gone) != gap:
        return (
            f"they are among the items {gone[0]:,} to {gone[-1]:,}" if gone else "which ones cannot be told"
        )
    if len(gone) == 1:
        return f"it is item {gone[0]:,}; give it to a new run"
    return f"the first is item {gone[0]:,}, the last item {gone[-1]:,}; give them to a new run"
