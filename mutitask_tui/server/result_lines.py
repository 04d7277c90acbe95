"""Writes results as JSON lines. Plain results take a short way, a page at a time; both ways give the same bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.json_text import to_json, to_plain
from mutitask_tui.server.reader import Result, parse_result
from worker_agent.protocol import codec, list_item, wire
from worker_agent.protocol.printable import printable_json
from worker_agent.protocol.unpatched import json

_PLAIN = re.compile(rb"M1([A-Za-z0-9]{8}([0-9]{12}))([0-9]{2})[0-9]" + list_item.INLINE)
_DEEP = 100
"""From so many lists and dicts on, a result takes the long way. It knows what is nested too deeply for JSON."""


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


def result_lines(channel: int, items: Sequence[bytes]) -> str:
    """Return the lines of these items of a result channel, each with its end of line."""
    lines: list[str] = []
    places: list[int] = []
    values: list[Any] = []
    for item in items:
        found = _PLAIN.match(item)
        if found is not None and len(item) < wire.CHECKED_BYTES:
            try:
                device, finished_ms, value = codec.unpackb(
                    item[list_item.HEADER_BYTES :], ext_hook=_Extension
                )
            except Exception:  # The long way tells what is wrong.
                found = None
            else:
                if type(device) is int and type(finished_ms) is int:
                    id_, number, attempt = found.groups()
                    places.append(len(lines))
                    values.append(value)
                    lines.append(
                        f'{{"channel": {channel}, "id": "{id_.decode()}", "number": {int(number)}, '
                        f'"attempt": {int(attempt)}, "device": {device}, "finished_ms": {finished_ms}, "result": '
                    )
                    continue
        lines.append(result_line(channel, parse_result(channel, item)) + "\n")
    for place, text in zip(places, _encode_each(values), strict=True):
        if text is None or (len(text) > _DEEP and text.count("[") + text.count("{") > _DEEP):
            lines[place] = result_line(channel, parse_result(channel, items[place])) + "\n"
        else:
            lines[place] += text + "}\n"
    page = "".join(lines)
    return page if page.isascii() and "\x7f" not in page else "".join(map(printable_json, lines))


class _Extension:
    """A value that JSON does not have, as it was packed."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code = code
        self.data = data


def _plain(value: Any) -> Any:
    """Return as plain JSON what the encoder does not know."""
    if type(value) is _Extension:
        value = wire.unpack(codec.packb(codec.ExtType(value.code, value.data)))
    return to_plain(value)


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=_plain).encode
_MARK = "\0"
"""Stands between values that one call encodes."""
_BETWEEN = ', "\\u0000", '


def _encode_each(values: list[Any]) -> list[str | None]:
    """Return the JSON of each value, None if it is not plain. One call for many values takes half the time."""
    if len(values) > 1:
        with_marks = [_MARK] * (2 * len(values) - 1)
        with_marks[::2] = values
        with contextlib.suppress(Exception):  # The long way tells what is wrong.
            texts = _encode(with_marks)[1:-1].split(_BETWEEN)
            if len(texts) == len(values):  # Otherwise a value contains the mark.
                return [*texts]
    return [_encode_alone(value) for value in values]


def _encode_alone(value: Any) -> str | None:
    try:
        return _encode(value)
    except Exception:  # The long way tells what is wrong.
        return None
