"""What Redis remembers of the items that were allotted, by which a resumed run tells another generator from its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

_ENDS = 4096


def digest(item: bytes) -> str:
    """Of a list item, as `allot.lua` computes it: of its length and both its ends."""
    ends = item[:_ENDS] + item[-_ENDS:] + b"%d" % len(item)
    return hashlib.sha1(ends, usedforsecurity=False).hexdigest()[:16]


def marks_in(fields: Mapping[bytes, bytes], cursor: int) -> dict[int, str]:
    """The digests of items below `cursor`, by their numbers in order; what is no mark is left out."""
    marks: dict[int, str] = {}
    for field, value in fields.items():
        number, told = value.split(b" ", 1) if field == b"last" and b" " in value else (field, value)
        if number.isdigit() and len(number) <= 16 and int(number) < cursor:
            marks[int(number)] = told.decode("ascii", "replace")
    return dict(sorted(marks.items()))
