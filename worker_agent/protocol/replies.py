"""Check the form of each reply. A malformed reply becomes an error of one sentence instead of a traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from worker_agent.protocol.connection.guard import MalformedReply

Check = Callable[[Any], bool]


def check_command_reply(command: Sequence[Any], reply: Any) -> Any:
    """Return the reply if it has the form of a reply to that command. Raises `MalformedReply`."""
    check = _COMMANDS.get(command[0])
    fits = check is None or check(reply)
    if fits and command[0] in ("HMGET", "MGET"):
        fits = len(reply) == len(command) - (2 if command[0] == "HMGET" else 1)
    if not fits:
        raise MalformedReply(f"it answers {command[0]} with {_described(reply)}")
    return reply


def check_script_reply(name: str, reply: Any) -> list[Any]:
    """Return the reply if it has the form of a reply of that script. Raises `MalformedReply`."""
    if not isinstance(reply, list):
        raise MalformedReply(f"it answers the script {name} with {_described(reply)}")
    if name in _WITHOUT_STATUS:
        fits = _has_form(reply, _WITHOUT_STATUS[name])
    else:
        form = _FORMS[name].get(reply[0]) if reply and isinstance(reply[0], bytes) else None
        fits = form is not None and _has_form(reply[1:], form)
    if not fits:
        raise MalformedReply(f"it answers the script {name} with a reply of another form")
    return reply


def parse_stored_reply(name: str, answer: bytes) -> list[Any]:
    """Return the reply from the stored answer of a numbered call that has run before. Raises `MalformedReply`."""
    fields = answer.split(b" ") if answer else []
    return check_script_reply(name, [b"ok", *fields, *_NOT_STORED.get(name, ())])


def is_whole(value: Any) -> bool:
    """Return whether `value` is a whole number from a script, as a number or as text."""
    if type(value) is int:
        return True
    return isinstance(value, bytes) and len(value) <= 20 and value.removeprefix(b"-").isdigit()


def to_dict(reply: Any) -> dict[bytes, bytes]:
    """Return as a dict a hash that passed `check_command_reply`: a dict, pairs, or fields and values in turn."""
    if isinstance(reply, dict):
        return reply
    if reply and isinstance(reply[0], list | tuple):
        return {pair[0]: pair[1] for pair in reply}
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _has_form(parts: Sequence[Any], form: str) -> bool:
    if len(parts) != len(form):
        return False
    for kind, part in zip(form, parts, strict=True):  # noqa: SIM110 - runs at each call, in half the time of `all()`
        if not _FIELDS[kind](part):
            return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, bytes)


def _is_text_or_nil(value: Any) -> bool:
    return value is None or isinstance(value, bytes)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and set(map(type, value)) <= {bytes}


def _are_pairs(value: Any) -> bool:
    """Return whether these are pairs of texts."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and _are_texts(pair) for pair in value
    )


def _are_texts_or_nil(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text_or_nil(part) for part in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_score(value: Any) -> bool:
    if isinstance(value, bytes):
        try:
            return float(value) == float(value)
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_mapping(value: Any) -> bool:
    """Return whether it is a hash: a dict (RESP3), pairs, or fields and values in turn."""
    if isinstance(value, dict):
        return all(isinstance(part, bytes) for pair in value.items() for part in pair)
    if not isinstance(value, list):
        return False
    if value and isinstance(value[0], list | tuple):
        return all(isinstance(pair, list | tuple) and len(pair) == 2 and _are_texts(pair) for pair in value)
    return len(value) % 2 == 0 and _are_texts(value)


def _are_scored(value: Any) -> bool:
    """Return whether these are members with their scores, as pairs or in turn."""
    if not isinstance(value, list):
        return False
    if value and isinstance(value[0], list | tuple):
        pairs = value
    elif len(value) % 2:
        return False
    else:
        pairs = list(zip(value[::2], value[1::2], strict=True))
    return all(
        isinstance(pair, list | tuple) and len(pair) == 2 and _is_text(pair[0]) and _is_score(pair[1])
        for pair in pairs
    )


def _is_time(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_whole, value))


def _is_popped(value: Any) -> bool:
    return value is None or (_are_texts(value) and len(value) == 2)


def _are_channels(value: Any) -> bool:
    """Return whether these are the channels of `snapshot.lua`."""
    return isinstance(value, list) and all(
        isinstance(channel, list)
        and len(channel) == 8
        and _is_mapping(channel[0])
        and all(map(_is_number, channel[1:6]))
        and _is_text(channel[6])
        and _is_mapping(channel[7])
        for channel in value
    )


_COMMANDS: dict[str, Check] = {
    "PING": lambda value: value is True or value in (b"PONG", "PONG"),
    "TIME": _is_time,
    "CONFIG": lambda value: isinstance(value, dict | list),
    "MGET": _are_texts_or_nil,
    "MSET": lambda value: value == b"OK",
    "EXISTS": _is_number,
    "HGET": _is_text_or_nil,
    "HMGET": _are_texts_or_nil,
    "HGETALL": _is_mapping,
    "HKEYS": _are_texts,
    "HVALS": _are_texts,
    "HLEN": _is_number,
    "HDEL": _is_number,
    "DEL": _is_number,
    "LLEN": _is_number,
    "LRANGE": _are_texts,
    "ZRANGE": _are_texts,
    "ZREVRANGE": _are_scored,
    "ZSCORE": lambda value: value is None or _is_score(value),
    "BLPOP": _is_popped,
}

_FIELDS: dict[str, Check] = {
    "n": is_whole,
    "t": _is_text,
    "T": _are_texts,
    "N": lambda value: isinstance(value, list) and all(map(is_whole, value)),
    "P": _are_pairs,
    "m": _is_mapping,
    "s": _are_scored,
    "c": _are_channels,
}

_NUMBERED = {
    "allot", "configure", "delete", "drain", "edit", "purge_device", "reload", "settle_and_claim", "set_desired",
    "skip_item", "request_cancel",
}  # fmt: skip
_NUMBERED_STATUSES = {b"lost": "", b"stale": "", b"again": "t"}
"""The statuses that every numbered script can return."""

_STATUSES: dict[str, dict[bytes, str]] = {
    # script: {status: the form of the fields after it, one letter of `_FIELDS` for each}
    "allot": {b"ok": "nnt", b"superseded": "t", b"moved": "n", b"gone": ""},
    "answer_detect": {b"ok": ""},
    "fence": {b"ok": ""},
    "configure": {b"ok": "n", b"low": "n"},
    "delete": {b"ok": "nT"},
    "drain": {b"ok": "n", b"moved": "n"},
    "edit": {b"ok": "nt"},
    "register_operator": {b"ok": "", b"none": "", b"version": "t"},
    "join": {
        b"ok": "n", b"none": "", b"version": "t", b"channel": "n", b"changed": "", b"held": "n", b"lost": "",
    },
    "leave": {b"ok": ""},
    "append_event": {b"ok": ""},
    "open_run": {
        b"ok": "tn", b"version": "t", b"held": "tn", b"changed": "", b"lost": "", b"work": "nnnnnn",
        b"channels": "n",
    },
    "promote": {b"ok": "n"},
    "purge_device": {b"ok": "n", b"held": ""},
    "recover": {b"ok": "nnnN", b"alive": ""},
    "reload": {b"ok": "nnn"},
    "renew_server_lease": {b"ok": "n", b"lost": "", b"superseded": "t", b"gone": ""},
    "heartbeat": {b"ok": "nnnttttt", b"lost": ""},
    "sample_counters": {b"ok": "n"},
    "settle_and_claim": {b"ok": "nntnNnn", b"gap": ""},
    "skip_item": {b"ok": "", b"superseded": "t", b"moved": "n", b"gone": ""},
    "append_device_log": {b"ok": ""},
    "set_desired": {b"ok": ""},
    "request_cancel": {b"ok": ""},
}  # fmt: skip

_NOT_STORED: dict[str, tuple[Any, ...]] = {"delete": ([],), "edit": (b"",)}
"""The last fields of some replies are not stored with the others. A second copy of the call gets these instead."""

_FORMS = {
    name: statuses | (_NUMBERED_STATUSES if name in _NUMBERED else {}) for name, statuses in _STATUSES.items()
}

_WITHOUT_STATUS = {"read_desired": "ttttt", "snapshot": "nmsmmmmmmTcsNn", "sweep": "PN"}


def _described(reply: Any) -> str:
    if isinstance(reply, bytes):
        return f"{reply[:20]!r}"
    return "nil" if reply is None else str(reply) if isinstance(reply, bool) else f"a {type(reply).__name__}"
