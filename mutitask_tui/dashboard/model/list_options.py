"""How a list of devices or channels is filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

Column = tuple[str, Callable[[Any], Any], bool]
"""A column: its name on the screen, its sort key, and whether the largest values come first at first."""


class Row(Protocol):
    """A row of such a list."""

    @property
    def id(self) -> int:
        """The number of the device or channel."""

    @property
    def fault(self) -> str:
        """What is wrong with it, in one word or two. '' if nothing is."""


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """How a list is filtered and sorted."""

    SORTS: ClassVar[Mapping[str, Column]] = {}
    """The columns by their names in the config file."""
    DEFAULT: ClassVar[str] = ""
    """The sort order that needs no mention."""

    filter_text: str = ""
    sort: str = ""
    """A column of `SORTS`; with `-` before it in descending order."""
    faults_only: bool = False

    @property
    def column(self) -> str:
        """The column without the direction."""
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        """Whether the largest value comes first."""
        return self.sort.startswith("-")

    @property
    def sort_text(self) -> str:
        """`by rate ↓`; '' for the default order."""
        if self.sort == self.DEFAULT:
            return ""
        return f"by {self.SORTS[self.column][0]} {'↓' if self.descending else '↑'}"

    @property
    def filter_summary(self) -> str:
        """The active filters in words; '' if there are none."""
        words = [f"match /{self.filter_text}"] if self.filter_text.strip() else []
        words += ["faults only"] if self.faults_only else []
        return ", ".join(words)

    @property
    def next_sort(self) -> str:
        """The next column with its default direction."""
        columns = list(self.SORTS)
        column = columns[(columns.index(self.column) + 1) % len(columns)]
        return f"-{column}" if self.SORTS[column][2] else column

    @property
    def reversed_sort(self) -> str:
        """The same column in the opposite direction."""
        return self.sort[1:] if self.descending else f"-{self.sort}"


def next_fault(rows: Sequence[R], cursor: int | None, step: int) -> R | None:
    """Return the next row with a fault, or the previous one if `step` is -1.

    The search wraps around the end and looks at the row under the cursor last.
    """
    place = next((i for i, row in enumerate(rows) if row.id == cursor), -1 if step > 0 else 0)
    for distance in range(1, len(rows) + 1):
        row = rows[(place + step * distance) % len(rows)]
        if row.fault:
            return row
    return None
