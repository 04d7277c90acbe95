"""Why a run failed: made where it failed, kept in the FailChannel, read by dashboards."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker_agent.protocol import codec, wire
from worker_agent.protocol.pristine import time

_MESSAGE_CHARACTERS = 2_000
_TRACEBACK_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one run failed. All texts come from agents: untrusted."""

    at_ms: int
    device: int | None
    stage: str
    type: str
    message: str
    traceback: str


def read_reasons(packed: bytes) -> list[Reason]:
    """The reasons of a task's failed runs, oldest first; what does not decode is left out."""
    reasons: list[Reason] = []
    try:
        for fields in _complete(packed):
            device = fields.get("device")
            reasons.append(
                Reason(
                    at_ms=int(fields.get("at", 0)),
                    device=device if isinstance(device, int) and device >= 0 else None,
                    stage=str(fields.get("stage", "")),
                    type=str(fields.get("type", "")),
                    message=str(fields.get("message", "")),
                    traceback=str(fields.get("traceback", "")),
                )
            )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, codec.UnpackException):
        pass
    return reasons


def _complete(packed: bytes) -> Iterator[Any]:
    """The values in `packed` as far as they are whole. No room is made for what is only announced."""
    walker = codec.Unpacker(max_buffer_size=wire.MAX_BYTES)
    walker.feed(packed)
    at = 0
    while at < len(packed):
        walker.skip()
        yield codec.unpackb(packed[at : walker.tell()], strict_map_key=False)
        at = walker.tell()


def reason(
    stage: str, error: BaseException | None, device: int, hidden: str = "", message: str = ""
) -> bytes:
    """Why a run failed, as msgpack: at (ms), device, stage, type, message, traceback; all of bounded length.

    Frames of the file `hidden` at the traceback's start are left out: they say nothing about the task.
    """
    if error is None:
        name, text, trace = (
            ("AgentDied", message, "") if message else ("None", "the task function returned None", "")
        )
    else:
        name, text, trace = name_of(type(error)), _text_of(error), _traceback_of(error, hidden)
    at = int(time.time() * 1000)
    fields = {"at": at, "device": device, "stage": stage, "type": name, "message": text, "traceback": trace}
    return wire.pack(fields)


def crashed(device: int | None) -> bytes:
    """The reason kept for a task whose agent died three times while it may have run; who recovered it."""
    told = "its agent died three times while it ran"
    return reason("crashed", None, -1 if device is None else device, message=told)


def in_one_line(error: BaseException) -> str:
    """An error's class and message, whatever they do when they are asked."""
    return f"{name_of(type(error))}: {_text_of(error)}"


def name_of(kind: type[BaseException]) -> str:
    """A class's name, whatever its metaclass makes of `__name__`."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return _clean(name)


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:
        text = f"(its message cannot be shown: {name_of(type(broken))})"
    return _clean(text[:_MESSAGE_CHARACTERS])


def _traceback_of(error: BaseException, hidden: str) -> str:
    """The traceback without our own frames, its end if it is long."""
    try:
        tail = error.__traceback__
        while tail is not None and tail.tb_frame.f_code.co_filename == hidden:
            tail = tail.tb_next
        lines = traceback.format_exception(type(error), error, tail, limit=-20)
        return _clean("".join(lines)[-_TRACEBACK_CHARACTERS:])
    except BaseException:
        return ""


def _clean(text: str) -> str:
    """Without lone surrogates, which msgpack cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
