"""Why a run failed. The agent packs the reason, the FailChannel keeps it, dashboards show it."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from worker_agent.protocol import codec, wire
from worker_agent.protocol.unpatched import time

_BROKEN = (ValueError, TypeError, AttributeError, OverflowError, RecursionError, codec.UnpackException)
"""What reading reasons raises that an agent did not write as it should."""
_MOST_MS = 10**15
_MESSAGE_CHARACTERS = 2_000
_TRACEBACK_CHARACTERS = 8_000
_MOST_LINES = 50


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one run failed. All texts come from agents and are untrusted."""

    at_ms: int
    device: int | None
    stage: str
    type: str
    message: str
    traceback: str
    delay_ms: int | None = None
    """How long the task waited before its next run. None if it ran again at once, or not at all."""
    given_up: str = ""
    """Why the task did not run again, as a sentence without its full stop. '' if it did."""
    lines: tuple[str, ...] = ()
    """The last lines that the run printed or logged, oldest first."""


_GIVEN_UP = {
    "no_retries": "no retries were left",
    "gave_up": "the task function raised GiveUp",
    "cancelled": "somebody cancelled it",
    "never": "the retry policy never retries this error",
    "only": "the retry policy retries only other errors",
    "undecodable": "no run can succeed",
    "crashes": "its process or its agent died three times while it ran",
}
"""The sentences for what `settle_and_claim.lua` and `recover.lua` append to the last reason."""


def trace_digests(packed: bytes) -> set[str]:
    """Return the digests of the tracebacks that these reasons name."""
    with contextlib.suppress(*_BROKEN):
        return {
            str(fields["trace"]) for fields in _complete(packed) if type(fields) is dict and "trace" in fields
        }
    return set()


def read_reasons(packed: bytes, traces: Mapping[str, str] = MappingProxyType({})) -> list[Reason]:
    """Return the reasons of a task's failed runs, oldest first. Leaves out what cannot be decoded.

    `traces` has the tracebacks of the digests that the reasons name. A script appends to a reason, as a map of its own,
    how long the task waits or why it was given up.
    """
    reasons: list[Reason] = []
    try:
        for fields in _complete(packed):
            if "delay_ms" in fields or "given_up" in fields:
                if reasons:
                    given_up = str(fields.get("given_up", ""))
                    if given_up == "gave_up" and reasons[-1].stage == "cancelled":
                        given_up = "cancelled"
                    reasons[-1] = replace(
                        reasons[-1],
                        delay_ms=min(int(fields["delay_ms"]), _MOST_MS) if "delay_ms" in fields else None,
                        given_up=_GIVEN_UP.get(given_up, ""),
                    )
                continue
            device = fields.get("device")
            reasons.append(
                Reason(
                    at_ms=int(fields.get("at", 0)),
                    device=device if isinstance(device, int) and device >= 0 else None,
                    stage=str(fields.get("stage", "")),
                    type=str(fields.get("type", "")),
                    message=str(fields.get("message", "")),
                    traceback=str(fields.get("traceback") or traces.get(str(fields.get("trace", "")), "")),
                    lines=_lines_in(fields.get("lines")),
                )
            )
    except _BROKEN:
        pass
    return reasons


def _lines_in(value: Any) -> tuple[str, ...]:
    lines = value[-_MOST_LINES:] if isinstance(value, list) else []
    return tuple(line for line in lines if isinstance(line, str))


def _complete(packed: bytes) -> Iterator[Any]:
    """Yield the complete values in `packed`. Allocates no memory for values that are only announced."""
    walker = codec.Unpacker(max_buffer_size=wire.MAX_BYTES)
    walker.feed(packed)
    at = 0
    while at < len(packed):
        walker.skip()
        yield codec.unpackb(packed[at : walker.tell()], strict_map_key=False)
        at = walker.tell()


def reason(
    stage: str, error: BaseException | None, device: int, hidden: str = "", message: str = "",
    lines: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """Return as msgpack why a run failed: at (ms), device, stage, type, message, traceback; all of limited length.

    The traceback starts after the frames of the file `hidden`, which say nothing about the task. `lines` are the last
    lines that the run printed or logged, without lone surrogates. They are kept with the run, not with the traceback,
    which is kept once for all runs that have it.
    """
    if error is None:
        name, text, trace = (
            ("AgentDied", message, "") if message else ("None", "the task function returned None", "")
        )
    else:
        name, text, trace = name_of(type(error)), _text_of(error), _traceback_of(error, hidden)
    at = int(time.time() * 1000)
    fields = {"at": at, "device": device, "stage": stage, "type": name, "message": text, "traceback": trace}
    if lines:
        fields["lines"] = list(lines)
    return wire.pack(fields)


def crash_reason(device: int | None) -> bytes:
    """Return the reason for a task whose agent died three times while it may have run. `device` recovered it."""
    message = "its agent died three times while it ran"
    return reason("crashed", None, -1 if device is None else device, message=message)


def in_one_line(error: BaseException) -> str:
    """Return an error's class and message. Does not fail if reading them raises."""
    return f"{name_of(type(error))}: {_text_of(error)}"


def name_of(kind: type[BaseException]) -> str:
    """Return a class's name, even if its metaclass redefines `__name__`."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return _clean(name)


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:
        text = f"(its message cannot be shown: {name_of(type(broken))})"
    return _clean(text[:_MESSAGE_CHARACTERS])


def _traceback_of(error: BaseException, hidden: str) -> str:
    """Return the traceback without MutiTask's own frames. Only its end if it is long."""
    try:
        tail = error.__traceback__
        while tail is not None and tail.tb_frame.f_code.co_filename == hidden:
            tail = tail.tb_next
        lines = traceback.format_exception(type(error), error, tail, limit=-20)
        return _clean("".join(lines)[-_TRACEBACK_CHARACTERS:])
    except BaseException:
        return ""


def _clean(text: str) -> str:
    """Return the text without lone surrogates, which msgpack cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def error_location(traceback: str, error: str) -> str:
    """Return the deepest frame of a traceback, such as `job.py:12 in parse`. Without a traceback, the error's text."""
    frames = re.findall(r'File "([^"\n]*)", line (\d+)(?:, in (\S+))?', traceback)
    if not frames:
        return error.partition("\n")[0][:80]
    # The traceback of a SyntaxError ends with the location in the text that did not parse. That is no frame.
    file, line, function = next((frame for frame in reversed(frames) if frame[2]), frames[-1])
    name = file.replace("\\", "/").rpartition("/")[2]
    return f"{name}:{line}" + (f" in {function}" if function else "")
