"""Values as JSON for people's files: what JSON does not know becomes the nearest thing that it does."""

from __future__ import annotations

import base64
from typing import Any

from worker_agent.protocol.printable import printable_json
from worker_agent.protocol.pristine import json
from worker_agent.protocol.words import in_words


def to_json(value: Any) -> str:
    """One line of JSON. Bytes become `{"$bytes": base64}`, sets and tuples lists, dates and the like text.

    What is nested too deeply for JSON becomes text, from the top field that holds it on.
    """
    try:
        return printable_json(json.dumps(_plain(value), ensure_ascii=False, allow_nan=True))
    except RecursionError:
        if not isinstance(value, dict):
            return printable_json(json.dumps(in_words(value, 400), ensure_ascii=False))
        shallow = {key: json.loads(to_json(inner)) for key, inner in value.items()}
        return printable_json(json.dumps(shallow, ensure_ascii=False, allow_nan=True))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(inner) for inner in value), key=repr)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain(key))
