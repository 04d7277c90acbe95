"""List items: a header, which scripts edit, the task's own options, and a packed body or where it is stored apart."""

from __future__ import annotations

import re
from typing import NamedTuple

from worker_agent.protocol import codec
from worker_agent.protocol.wire import Undecodable

HEADER_BYTES = 26
"""The bytes before the body of an item without options whose body is inline: the header and the letter `INLINE`."""
INLINE, APART, OPTIONS = b"m", b"b", b"o"
"""The letter after the header says what follows: the msgpack body; where the body is stored apart; or the task's
options, which end with `;`, and then one of the other two letters."""
_FORM_AT = HEADER_BYTES - 1
_MOST_OPTIONS_BYTES = 40
_HEADER = re.compile(b"M1([A-Za-z0-9]{8})([0-9]{12})([0-9]{2})([0-9])")
_OPTIONS = re.compile(rb"o(?:t([0-9]{1,7}(?:\.[0-9]{1,3})?))?(?:r([0-9]{1,2}))?(?:d([0-9]{1,12}))?;")
_PLACE = re.compile(rb"b([0-9]{8})([A-Za-z0-9.:_-]{1,100})")


class Options(NamedTuple):
    """The options of one task. None leaves a value to the channel's policy or the agent's settings."""

    timeout: float | None = None
    """The limit of one run, in seconds."""
    retries: int | None = None
    delay_ms: int | None = None
    """How long after it was allotted the task is due."""


class Apart(NamedTuple):
    """Where a body is stored apart from its item: `bodies.py` makes the key from the id and the ending."""

    size: int
    """The body's size in bytes, as the item says."""
    ending: str


class Item(NamedTuple):
    """A list item: a header, which scripts edit, the task's options, and a packed body, which no script reads."""

    run: str
    number: int
    attempt: int
    crashes: int
    body: bytes
    """The packed body, b"" if it is stored apart."""
    options: Options = Options()
    apart: Apart | None = None

    @property
    def id(self) -> str:
        """The task's id, 20 characters: the run's id and the task's number."""
        return f"{self.run}{self.number:012d}"


def header(run: str, number: int, attempt: int = 0, crashes: int = 0) -> bytes:
    """Return the 26 bytes before an inline body. `run` is 8 letters or digits."""
    return b"M1%b%012d%02d%d%b" % (run.encode("ascii"), number, attempt, crashes, INLINE)


def new_task_header(run: bytes, number: int) -> bytes:
    """Return the header of a task that has never run."""
    return b"M1%b%012d000%b" % (run, number, INLINE)


def with_options(item: bytes, options: Options) -> bytes:
    """Return the item with these options. The item has none."""
    if options == Options():
        return item
    timeout, retries, delay = options
    text = b"".join(
        (
            b"" if timeout is None else b"t" + f"{timeout:.3f}".rstrip("0").rstrip(".").encode("ascii"),
            b"" if retries is None else b"r%d" % retries,
            b"" if delay is None else b"d%d" % delay,
        )
    )
    return item[:_FORM_AT] + OPTIONS + text + b";" + item[_FORM_AT:]


def form_at(item: bytes) -> int:
    """Return where the letter is that says whether the body is inline or apart. Raises `Undecodable`."""
    if item[_FORM_AT:HEADER_BYTES] != OPTIONS:
        return _FORM_AT
    end = item.find(b";", HEADER_BYTES, HEADER_BYTES + _MOST_OPTIONS_BYTES)
    if end < 0:
        raise Undecodable("no valid options")
    return end + 1


def options_of(item: bytes) -> Options:
    """Return the options of an item. Raises `Undecodable` if they are not valid."""
    if item[_FORM_AT:HEADER_BYTES] != OPTIONS:
        return _NO_OPTIONS
    found = _OPTIONS.match(item, _FORM_AT)
    if found is None:
        raise Undecodable("no valid options")
    timeout, retries, delay = found.groups()
    return Options(
        None if timeout is None else float(timeout),
        None if retries is None else int(retries),
        None if delay is None else int(delay),
    )


_NO_OPTIONS = Options()


def is_apart(item: bytes) -> bool:
    """Return whether the item says that its body is stored apart."""
    letter = item[_FORM_AT:HEADER_BYTES]
    if letter == OPTIONS:
        end = item.find(b";", HEADER_BYTES, HEADER_BYTES + _MOST_OPTIONS_BYTES)
        letter = item[end + 1 : end + 2]
    return letter == APART


def body(item: bytes) -> bytes:
    """Return the inline body of an item. Raises `Undecodable` if there is none."""
    if item[_FORM_AT:HEADER_BYTES] == INLINE:
        return item[HEADER_BYTES:]
    at = form_at(item)
    if item[at : at + 1] != INLINE:
        raise Undecodable("its body is stored apart" if item[at : at + 1] == APART else "no known form")
    return item[at + 1 :]


def apart(item: bytes, ending: str) -> bytes:
    """Return the small form of an item whose body is inline and is now stored apart, under that ending."""
    at = form_at(item)
    return b"%b%b%08d%b" % (item[:at], APART, len(item) - at - 1, ending.encode("ascii"))


def inline(item: bytes, body: bytes) -> bytes:
    """Return an item with this body inline."""
    return item[: form_at(item)] + INLINE + body


def result_header(item: bytes) -> bytes:
    """Return what comes before the packed result of a task in its list item: its header without options."""
    return item[:_FORM_AT] + INLINE


def unpack_items(packed: bytes) -> list[bytes]:
    """Return the list items of a claim, which a script packed as an array of strings or as ''. Raises `Undecodable`."""
    try:
        items: list[bytes] = codec.unpackb(packed, raw=True) if packed else []
    except Exception as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from None
    if type(items) is not list or not set(map(type, items)) <= {bytes}:
        raise Undecodable("not an array of strings")
    return items


def parse(item: bytes) -> Item:
    """Return the parts of an item. Raises `Undecodable` if its header or its form is not valid (law 11)."""
    found = _HEADER.match(item)
    if found is None:
        raise Undecodable("no valid header")
    run, number, attempt, crashes = found.groups()
    at = form_at(item)
    options, letter = options_of(item), item[at : at + 1]
    place = None
    if letter == APART:
        told = _PLACE.fullmatch(item, at)
        if told is None:
            raise Undecodable("no valid place of its body")
        place = Apart(int(told[1]), told[2].decode())
    elif letter != INLINE:
        raise Undecodable("no valid header")
    packed = b"" if place else item[at + 1 :]
    return Item(run.decode(), int(number), int(attempt), int(crashes), packed, options, place)
