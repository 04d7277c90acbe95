"""Lists of lines. They use the line API, so the cost depends on the visible lines only."""

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
"""A piece of a line: its text, and the name of its component class without the prefix `line--`."""


class TailView(ScrollView, Generic[T], can_focus=True):
    """Show one line for each item, and follow the end unless the user has scrolled up.

    A change of the theme also applies to old lines.
    """

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
    """Whether the view starts at the end and follows it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: Sequence[T] = ()
        """The shown items, in display order."""
        self._following = self.FOLLOWS
        self._styles: dict[str, Style] = {}

    @abstractmethod
    def pieces(self, item: T, width: int) -> list[Piece]:
        """Return the line of an item, about `width` cells wide."""

    def show_lines(self, items: Sequence[T], dropped: int = 0) -> None:
        """Show these items. `dropped` is how many items were removed from the top since the last call."""
        self.shown = items
        self.virtual_size = Size(self.scrollable_content_region.width, len(items))
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        elif dropped:
            self.scroll_to(y=self.scroll_y - dropped, animate=False)
        self.refresh()

    def on_resize(self) -> None:
        """Stay at the end if the view was at the end."""
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.shown))
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
            self.scroll_end(animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Stop following the end when the user scrolls up; resume at the end.

        A panel that becomes larger also scrolls up, but then it still shows the end.
        """
        super().watch_scroll_y(old_value, new_value)
        if round(new_value) >= self.max_scroll_y:
            self._following = self.FOLLOWS
        elif new_value < old_value <= self.max_scroll_y:
            self._following = False

    def render_line(self, y: int) -> Strip:
        """Return the strip of the visible line `y`."""
        width = self.scrollable_content_region.width
        index = self.scroll_offset.y + y
        base = self._style("")
        if index >= len(self.shown):
            return Strip.blank(width, base)
        pieces = self.pieces(self.shown[index], width)
        parts = [Segment(text, self._style(style_name)) for text, style_name in pieces]
        return Strip(parts).adjust_cell_length(width, base)

    def notify_style_update(self) -> None:
        """Drop the cached styles, because the theme changed."""
        super().notify_style_update()
        self._styles.clear()

    def _style(self, style_name: str) -> Style:
        style = self._styles.get(style_name)
        if style is None:
            style = self.get_component_rich_style(f"line--{style_name}") if style_name else self.rich_style
            self._styles[style_name] = style
        return style


class PlainLines(TailView[T]):
    """Show items from the top. A function formats the lines."""

    FOLLOWS: ClassVar[bool] = False

    def __init__(self, line: Callable[[T, int], list[Piece]], *, id: str | None = None) -> None:
        """Create the view. `line` returns the pieces of an item for a width."""
        super().__init__(id=id)
        self._line = line

    def pieces(self, item: T, width: int) -> list[Piece]:
        """Return the line of an item."""
        return self._line(item, width)
