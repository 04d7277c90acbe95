"""Writes any value that a task or a result can hold as one line of JSON."""

from __future__ import annotations

import base64
from typing import Any

from worker_agent.protocol.printable import printable_json
from worker_agent.protocol.text import short_text
from worker_agent.protocol.unpatched import json


def to_json(value: Any) -> str:
    """Return one line of JSON. Bytes become `{"$bytes": base64}`, sets and tuples become lists, dates become text.

    If a value is nested too deeply for JSON, its top-level field becomes text.
    """
    try:
        return printable_json(json.dumps(to_plain(value), ensure_ascii=False, allow_nan=True))
    except RecursionError:
        if not isinstance(value, dict):
            return printable_json(json.dumps(short_text(value, 400), ensure_ascii=False))
        shallow = {key: json.loads(to_json(inner)) for key, inner in value.items()}
        return printable_json(json.dumps(shallow, ensure_ascii=False, allow_nan=True))


def to_plain(value: Any) -> Any:
    """Return the value as what JSON has: text, numbers, lists, dicts with text as keys, and None."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {_key(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((to_plain(inner) for inner in value), key=repr)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(to_plain(key))
