"""Writes failed tasks and results as JSON lines."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Sequence
from typing import IO, Any, TextIO

from mutitask_tui.server.reader import FailedRecord, Reader, Result, every_result
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.errors import ConcurrentChange
from worker_agent.protocol.printable import printable_json
from worker_agent.protocol.text import short_text
from worker_agent.protocol.unpatched import json

PAGE = 500


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
        "device": view.device,
        "task": record.value if record.unpacks else record.raw,
    }
    return to_json(fields)


def export_failed(reader: Reader, channel: int | None, file: IO[str]) -> int:
    """Write the failed tasks of one channel, or of all channels for None, newest first. Returns their number."""
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


def export_selected(reader: Reader, targets: Sequence[tuple[int, str]], file: IO[str]) -> int:
    """Write those of these failed tasks (channel, id) that still exist. Returns their number."""
    count = 0
    for channel, id_ in targets:
        record = reader.failed_record(channel, id_)
        if record is not None:
            file.write(failed_line(record) + "\n")
            count += 1
    return count


def result_line(channel: int, result: Result | bytes) -> str:
    """Return one result as a line of JSON."""
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
    """Write a channel's results and return their number. With a `broker`, drain each page after it is flushed.

    Raises `ConcurrentChange` if another drain takes results of this channel at the same time.
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
        except ConcurrentChange:
            raise ConcurrentChange(
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
    """Force the file to the disk if it is on one: a drained result exists nowhere else."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # A pipe, a terminal, memory.
            raise


def to_json(value: Any) -> str:
    """Return one line of JSON. Bytes become `{"$bytes": base64}`, sets and tuples become lists, dates become text.

    If a value is nested too deeply for JSON, its top-level field becomes text.
    """
    try:
        return printable_json(json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=True))
    except RecursionError:
        if not isinstance(value, dict):
            return printable_json(json.dumps(short_text(value, 400), ensure_ascii=False))
        shallow = {key: json.loads(to_json(inner)) for key, inner in value.items()}
        return printable_json(json.dumps(shallow, ensure_ascii=False, allow_nan=True))


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {_json_key(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_jsonable(inner) for inner in value), key=repr)
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _json_key(key: Any) -> str:
    return key if isinstance(key, str) else str(_jsonable(key))
