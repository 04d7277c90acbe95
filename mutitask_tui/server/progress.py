"""Progress for people without a dashboard: one line now and then, and a closing summary."""

from __future__ import annotations

from mutitask_tui.server.snapshot import Snapshot
from mutitask_tui.server.troubles import troubles


def line(snapshot: Snapshot) -> str:
    """Where the run stands, in one line."""
    channels, devices = snapshot.channels, snapshot.devices
    done, failed = sum(c.done for c in channels), sum(c.failed for c in channels)
    waiting, capacity = sum(c.waiting for c in channels), sum(c.capacity for c in channels)
    claimed = sum(c.claimed for c in channels)
    running = sum(d.state == "running" for d in devices)
    errors = sum(c.errors for c in channels)
    tried_again = f" ({errors:,} errors)" if errors > failed else ""
    books = "" if snapshot.balanced else "; BOOKS DO NOT BALANCE"
    wrong = "".join(f"; {text}" for text in troubles(snapshot))
    halted = "".join(f"; TaskChannel{c.id} stopped: {c.halted}" for c in channels if c.halted)
    return (
        f"{done:,} done, {failed:,} failed{tried_again}, {waiting:,}/{capacity:,} waiting, {claimed:,} claimed, "
        f"{running} of {len(devices)} devices running, {snapshot.rate:,.0f} tasks/s{halted}{wrong}{books}"
    )


def finished(snapshot: Snapshot) -> str:
    """That all is done and the server still there, in one line that stays the same."""
    done, failed = sum(c.done for c in snapshot.channels), sum(c.failed for c in snapshot.channels)
    books = "" if snapshot.balanced else "; BOOKS DO NOT BALANCE"
    return (
        f"finished: {done:,} done, {failed:,} failed{books}; Ctrl+C ends the server, "
        "--until-done does so by itself"
    )


def summary(snapshot: Snapshot, seconds: float, *, kept: bool = True) -> str:
    """What became of the run, for its end.

    `seconds` is how long it took, `kept` whether what is left outlives this process.
    """
    channels = snapshot.channels
    done, failed = sum(c.done for c in channels), sum(c.failed for c in channels)
    deleted, allotted = sum(c.deleted for c in channels), sum(c.allotted for c in channels)
    rest = sum(c.open for c in channels)
    parts = [f"{allotted:,} tasks allotted: {done:,} done, {failed:,} failed"]
    if deleted:
        parts.append(f"{deleted:,} deleted")
    if rest:
        parts.append(f"{rest:,} still to do" + (", kept in Redis" if kept else ""))
    rate = f", {(done + failed) / seconds:,.0f} tasks/s" if seconds > 0 and done + failed else ""
    books = "the books balance" if snapshot.balanced else "THE BOOKS DO NOT BALANCE"
    return f"{', '.join(parts)}; {books}; {seconds:.1f} s{rate}"
