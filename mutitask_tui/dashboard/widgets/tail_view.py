"""Lines that grow at their end: drawn by the line API, following the end unless a person has scrolled up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

T = TypeVar("T")

Piece = tuple[str, str]
"""A stretch of a line: its text, and the component class without `line--` that colours it."""


class TailView(ScrollView, Generic[T], can_focus=True):
    """One line for each item; themes recolour old lines too."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line--time",
        "line--who",
        "line--info",
        "line--warning",
        "line--error",
    }

    DEFAULT_CSS = """
    TailView {
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > .line--time { color: $text-muted; }
        & > .line--who { color: $text-primary; }
        & > .line--info { color: $foreground; }
        & > .line--warning { color: $text-warning; }
        & > .line--error { color: $text-error; }
    }
    """

    FOLLOWS: ClassVar[bool] = True
    """Whether the view begins at the end."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: Sequence[T] = ()
        """The items that are shown, in order."""
        self._following = self.FOLLOWS
        self._styles: dict[str, Style] = {}

    @abstractmethod
    def pieces(self, item: T, width: int) -> list[Piece]:
        """One item's line, about `width` cells wide."""

    def show_lines(self, items: Sequence[T], dropped: int = 0) -> None:
        """Show these items; `dropped` of those that were on top are not among them any more."""
        self.shown = items
        self.virtual_size = Size(self.scrollable_content_region.width, len(items))
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        elif dropped:
            self.scroll_to(y=self.scroll_y - dropped, animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """Keep to the end where the view was at the end."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.shown))
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
            self.scroll_end(animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls up stops the following, whoever scrolls to the end resumes it.

        A panel that grew moves up too, but then there is nothing further down any more.
        """
        super().watch_scroll_y(old_value, new_value)
        if round(new_value) >= self.max_scroll_y:
            self._following = self.FOLLOWS
        elif new_value < old_value <= self.max_scroll_y:
            self._following = False

    def render_line(self, y: int) -> Strip:
        """The strip at line `y` of what can be seen."""
        width = self.scrollable_content_region.width
        place = self.scroll_offset.y + y
        base = self._style("")
        if place >= len(self.shown):
            return Strip.blank(width, base)
        pieces = self.pieces(self.shown[place], width)
        parts = [Segment(text, self._style(look)) for text, look in pieces]
        return Strip(parts).adjust_cell_length(width, base)

    def notify_style_update(self) -> None:
        """A theme changed: no style holds."""
        super().notify_style_update()
        self._styles.clear()

    def _style(self, look: str) -> Style:
        style = self._styles.get(look)
        if style is None:
            style = self.get_component_rich_style(f"line--{look}") if look else self.rich_style
            self._styles[look] = style
        return style


class PlainLines(TailView[T]):
    """Lines made by a function, from the top; replaced as a whole."""

    FOLLOWS: ClassVar[bool] = False

    def __init__(self, line: Callable[[T, int], list[Piece]], *, id: str | None = None) -> None:
        """`line` gives an item's pieces for a width."""
        super().__init__(id=id)
        self._line = line

    def pieces(self, item: T, width: int) -> list[Piece]:
        """One item's line."""
        return self._line(item, width)
