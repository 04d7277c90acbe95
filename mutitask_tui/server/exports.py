"""Writes failed tasks and results as JSON lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import IO, Any, TextIO

from mutitask_tui.server.json_text import to_json
from mutitask_tui.server.reader import FailedRecord, Reader
from mutitask_tui.server.result_lines import result_lines
from mutitask_tui.server.watch import current_watch
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import ConcurrentChange
from worker_agent.protocol.reasons import Reason

PAGE = 500
RESULTS_PAGE = 1_000


def failed_line(record: FailedRecord) -> str:
    """Return one failed task as a line of JSON. A payload that does not unpack is given as bytes."""
    view = record.view
    fields: dict[str, Any] = {
        "channel": view.channel,
        "id": view.id,
        "number": view.number,
        "failed_ms": view.failed_ms,
        "runs": view.runs,
        "stage": view.stage,
        "type": view.error_type,
        "error": view.error,
        "traceback": view.traceback,
        "lines": list(record.reasons[-1].lines) if record.reasons else [],
        "device": view.device,
        "given_up": record.reasons[-1].given_up if record.reasons else "",
        "failed_runs": [_run_data(reason) for reason in record.reasons],
        "task": record.value if record.unpacks else record.raw,
    }
    return to_json(fields)


def _run_data(reason: Reason) -> dict[str, Any]:
    """Return one failed run, with the seconds until the next run (None: at once, or no further run)."""
    return {
        "at_ms": reason.at_ms,
        "device": reason.device,
        "stage": reason.stage,
        "type": reason.type,
        "error": reason.message,
        "lines": list(reason.lines),
        "delay": None if reason.delay_ms is None else reason.delay_ms / 1000,
    }


def export_failed(reader: Reader, channel: int | None, file: IO[str]) -> int:
    """Write the failed tasks of one channel, or of all channels for None, newest first. Returns their number."""
    count = 0
    numbers = range(reader.channels()) if channel is None else [channel]
    watch, total = (
        current_watch(),
        sum(c.failed for c in reader.snapshot().channels if channel in (None, c.id)),
    )
    for number in numbers:
        offset = 0
        while not watch.stopped and (page := reader.failed_records(number, offset, PAGE)):
            for record in page:
                # A large payload was left out of the page.
                whole = reader.failed_record(number, record.view.id) if record.apart else record
                if whole is not None:
                    file.write(failed_line(whole) + "\n")
                    count += 1
            offset += PAGE
            watch.tell("exported", count, total)
    return count


def export_selected(reader: Reader, targets: Sequence[tuple[int, str]], file: IO[str]) -> int:
    """Write those of these failed tasks (channel, id) that still exist. Returns their number."""
    count, watch = 0, current_watch()
    for channel, id_ in targets:
        if watch.stopped:
            break
        record = reader.failed_record(channel, id_)
        if record is not None:
            file.write(failed_line(record) + "\n")
            count += 1
            watch.tell("exported", count, len(targets))
    return count


def export_results(reader: Reader, broker: Broker | None, channel: int, file: TextIO) -> int:
    """Write a channel's results and return their number. With a `broker`, drain each page after it is on the disk.

    Raises `ConcurrentChange` if another drain takes results of this channel at the same time.
    """
    count = 0
    while True:
        drained, items, bodies = reader.result_items(channel, 0 if broker else count, RESULTS_PAGE)
        if not items:
            break
        file.write(result_lines(channel, items))
        file.flush()
        if broker is not None:
            _sync(file)
            _drain(broker, channel, drained, len(items), bodies)
        count += len(items)
    _sync(file)
    return count


def _drain(broker: Broker, channel: int, drained: int, written: int, bodies: Sequence[bytes]) -> None:
    try:
        broker.drain(channel, drained, written, bodies)
    except ConcurrentChange:
        raise ConcurrentChange(
            f"somebody else drains the results of TaskChannel{channel} too: the last {written} lines may stand "
            "in both places; drain from one place at a time"
        ) from None


def _sync(file: TextIO) -> None:
    """Force the file to the disk if it is on one: a drained result exists nowhere else."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # A pipe, a terminal, memory.
            raise
