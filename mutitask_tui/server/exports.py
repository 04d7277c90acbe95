"""Failed tasks and results as JSON lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import IO, Any, TextIO

from mutitask_tui.server.plain import to_json
from mutitask_tui.server.reader import FailedRecord, Reader, Result, every_result
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import Changed

PAGE = 500


def failed_line(record: FailedRecord) -> str:
    """One failed task as a line of JSON; a payload that does not unpack is there as bytes."""
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
        "device": view.device,
        "task": record.value if record.unpacks else record.raw,
    }
    return to_json(fields)


def export_failed(reader: Reader, channel: int | None, file: IO[str]) -> int:
    """Write failed tasks, newest first in each channel; how many."""
    count = 0
    numbers = range(reader.channels()) if channel is None else [channel]
    for number in numbers:
        offset = 0
        while page := reader.failed_records(number, offset, PAGE):
            for record in page:
                file.write(failed_line(record) + "\n")
            count += len(page)
            offset += PAGE
    return count


def export_these(reader: Reader, targets: Sequence[tuple[int, str]], file: IO[str]) -> int:
    """Write these failed tasks (channel, id), as far as they are still there; how many."""
    count = 0
    for channel, id_ in targets:
        record = reader.failed_record(channel, id_)
        if record is not None:
            file.write(failed_line(record) + "\n")
            count += 1
    return count


def result_line(channel: int, result: Result | bytes) -> str:
    """One result as a line of JSON."""
    if isinstance(result, bytes):
        return to_json({"channel": channel, "undecodable": result})
    return to_json(
        {
            "channel": channel,
            "id": result.id,
            "number": result.number,
            "attempt": result.attempt,
            "device": result.device,
            "finished_ms": result.finished_ms,
            "result": result.value,
        }
    )


def export_results(reader: Reader, broker: Broker | None, channel: int, file: TextIO) -> int:
    """Write a channel's results; with a `broker` each page is drained once it is written and flushed.

    How many were written. A drain that somebody else's drain came before stops with `Changed`.
    """
    count = 0
    if broker is None:
        for results in every_result(reader, channel):
            count += _write(channel, results, file)
        return count
    while True:
        drained, results = reader.results(channel, 0, 1_000)
        if not results:
            return count
        written = _write(channel, results, file)
        try:
            broker.drain(channel, drained, written)
        except Changed:
            raise Changed(
                f"somebody else drains the results of TaskChannel{channel} too: the last {written} lines may stand "
                "in both places; drain from one place at a time"
            ) from None
        count += written


def _write(channel: int, results: list[Result | bytes], file: TextIO) -> int:
    for result in results:
        file.write(result_line(channel, result) + "\n")
    file.flush()
    _sync(file)
    return len(results)


def _sync(file: TextIO) -> None:
    """To the disk, if that is where it goes: what is drained next is nowhere else."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # A pipe, a terminal, memory.
            raise
