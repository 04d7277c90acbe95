"""A grid of equal cells. It uses the line API, so the cost depends on the visible cells only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from math import ceil
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mutitask_tui.dashboard.keys.screen_bindings import LIST_BINDINGS

T = TypeVar("T")

Piece = tuple[str, str]
"""A piece of a line: its text, and the name of its component class without the prefix `cell--`."""

Key = Hashable
"""Identifies an item across updates: a number or a tuple."""

_ROWS_PER_FRAME = 8
"""How many rows are drawn in one frame. Eight rows of a wide terminal take about 4 ms."""

_STYLE_NAMES = ("text", "title", "faint", "good", "calm", "warn", "bad", "loud")


class CellGrid(ScrollView, Generic[T], can_focus=True):
    """Show items in cells of equal size, with a cursor and marks.

    The cursor follows the key of its item when items are added, removed or moved.
    """

    MIN_CELL_WIDTH: ClassVar[int] = 20
    """The smallest width of a cell, in terminal cells."""

    MAX_CELL_WIDTH: ClassVar[int] = 400
    """The largest width of a cell, in terminal cells."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"cell--{name}" for name in _STYLE_NAMES),
        "cell--cursor",
        "cell--marked",
    }

    DEFAULT_CSS = """
    CellGrid {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > .cell--text { color: $foreground; }
        & > .cell--title { color: $foreground; text-style: bold; }
        & > .cell--faint { color: $text-muted; }
        & > .cell--good { color: $text-success; }
        & > .cell--calm { color: $text-primary; }
        & > .cell--warn { color: $text-warning; }
        & > .cell--bad { color: $text-error; }
        & > .cell--loud { color: $text-error; text-style: bold reverse; }
        & > .cell--marked { background: $accent 18%; }
        & > .cell--cursor { background: $foreground 8%; }
        &:focus > .cell--cursor { background: $primary 28%; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*LIST_BINDINGS]

    class Highlighted(Message):
        """Posted when the cursor moves to another item.

        `key` is the key of the item under the cursor, or None.
        """

        def __init__(self, grid: CellGrid[Any], key: Any) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> CellGrid[Any]:
            """The grid that posted the message."""
            return self.grid

    class Opened(Highlighted):
        """Posted when the user opens an item (Enter or a double click)."""

    class HeightChanged(Highlighted):
        """Posted when the total height of the items changes."""

    class Marked(Highlighted):
        """Posted when the set of marked items changes."""

    cursor: Reactive[Any] = Reactive(None, repaint=False)
    """The key of the item under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.items: tuple[T, ...] = ()
        """The items, in display order."""
        self.marked: set[Key] = set()
        """The keys of the marked items. A filter can hide some of them."""
        self.columns = 1
        """The number of cells in a row."""
        self.cell_width = 1
        """The width of a cell, in terminal cells."""
        self.cell_height = 1
        """The height of a cell, in lines."""
        self.gap = 0
        """The number of blank lines between rows."""
        self._index_by_key: dict[Key, int] = {}
        self._strips_by_row: dict[int, list[Strip]] = {}
        self._rows_to_redraw: set[int] = set()
        """Rows that a later frame draws again."""
        self._styles: dict[tuple[str, bool, bool], Style] = {}

    @abstractmethod
    def key_of(self, item: T) -> Key:
        """Return the key that identifies an item across updates."""

    @abstractmethod
    def cell_line(self, item: T, line: int, width: int) -> list[Piece]:
        """Return one line of an item's cell, about `width` terminal cells wide."""

    def edge_style(self, item: T) -> str:
        """Return the style name of the bar at the left edge of an item's cell."""
        return "faint"

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Return (columns, cell height, gap) for a region of `width` by `height` terminal cells."""
        return self.columns_for(self.MIN_CELL_WIDTH, width), self.cell_height, 0

    def columns_for(self, cell_width: int, width: int) -> int:
        """Return how many columns of at least `cell_width` fit into `width`, at most one per item."""
        return max(1, min(width // cell_width, len(self.items)))

    @property
    def selected(self) -> T | None:
        """The item under the cursor, or None."""
        index = self._index_by_key.get(self.cursor)
        return None if index is None else self.items[index]

    @property
    def row_height(self) -> int:
        """The height of a row with its gap, in lines."""
        return self.cell_height + self.gap

    def show(self, items: Sequence[T]) -> None:
        """Replace the items. Only visible rows that changed are drawn again."""
        old, self.items = self.items, tuple(items)
        index = self._cursor_index()
        keep_visible = self.cursor in self._index_by_key and self._is_visible(index)
        self._index_by_key = {self.key_of(item): i for i, item in enumerate(self.items)}
        if len(old) != len(self.items):
            self._update_layout()
        else:
            changed = {
                i // self.columns
                for i, (before, now) in enumerate(zip(old, self.items, strict=True))
                if before is not now and before != now
            }
            self._redraw_in_steps(changed)
        if self.cursor not in self._index_by_key:
            key = self.key_of(self.items[min(index, len(self.items) - 1)]) if self.items else None
            self.select(key, scroll=False)
        elif keep_visible and self._index_by_key[self.cursor] != index:
            self._scroll_to_row(self._index_by_key[self.cursor] // self.columns)

    def select(self, key: Key | None, *, scroll: bool = True) -> None:
        """Move the cursor to the item with this key, and scroll to it if `scroll` is true."""
        if key == self.cursor:
            return
        previous, self.cursor = self.cursor, key
        indexes = [self._index_by_key[k] for k in (previous, key) if k in self._index_by_key]
        self._redraw({index // self.columns for index in indexes})
        if scroll and key in self._index_by_key:
            self._scroll_to_row(self._index_by_key[key] // self.columns)
        self.post_message(self.Highlighted(self, key))

    def mark(self, keys: set[Key]) -> None:
        """Mark the items with these keys and unmark all others."""
        if keys == self.marked:
            return
        changed = keys ^ self.marked
        self.marked = set(keys)
        self._redraw(
            {self._index_by_key[key] // self.columns for key in changed if key in self._index_by_key}
        )
        self.post_message(self.Marked(self, self.cursor))

    @property
    def keys(self) -> list[Key]:
        """The keys of the items, in display order."""
        return list(self._index_by_key)

    def render_line(self, y: int) -> Strip:
        """Return the strip of the visible line `y`."""
        row, line = divmod(self.scroll_offset.y + y, self.row_height)
        if row * self.columns >= len(self.items) or line >= self.cell_height:
            return Strip.blank(self.scrollable_content_region.width, self._style("text", False))
        strips = self._strips_by_row.get(row)
        if strips is None:
            strips = self._strips_by_row[row] = [self._draw(row, n) for n in range(self.cell_height)]
        return strips[line]

    def notify_style_update(self) -> None:
        """Drop all cached strips and styles, because the theme changed."""
        super().notify_style_update()
        self._styles.clear()
        self._strips_by_row.clear()

    def on_resize(self) -> None:
        """Recompute the layout for the new size."""
        self._update_layout()

    def on_focus(self) -> None:
        """Redraw: the cursor has another style while the grid has the focus."""
        self.notify_style_update()

    def on_blur(self) -> None:
        """Redraw: the cursor has another style while the grid has no focus."""
        self.notify_style_update()

    def on_click(self, event: events.Click) -> None:
        """Select the clicked item. A double click opens it."""
        at = event.get_content_offset(self)
        if at is None:  # the border
            return
        row = (at.y + self.scroll_offset.y) // self.row_height
        column = at.x // self.cell_width
        index = row * self.columns + column
        if column >= self.columns or not 0 <= index < len(self.items):
            return
        self.select(self.key_of(self.items[index]))
        if event.chain == 2:
            self.action_open()

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor `across` columns to the right and `down` rows down."""
        if not self.items:
            return
        index = self._cursor_index()
        target = index + across + down * self.columns
        if 0 <= target < len(self.items):
            self._select_index(target)
        elif down > 0 and index // self.columns < (len(self.items) - 1) // self.columns:
            self._select_index(len(self.items) - 1)

    def action_page(self, pages: int) -> None:
        """Move the cursor by `pages` screens."""
        rows = max(1, self.scrollable_content_region.height // self.row_height)
        index = self._cursor_index() + pages * rows * self.columns
        self._select_index(min(max(index, 0), len(self.items) - 1))

    def action_jump(self, index: int) -> None:
        """Move the cursor to the item at `index`, or to the last item if `index` is negative."""
        self._select_index(index if index >= 0 else len(self.items) - 1)

    def action_open(self) -> None:
        """Open the item under the cursor."""
        if self.cursor in self._index_by_key:
            self.post_message(self.Opened(self, self.cursor))

    def action_mark(self) -> None:
        """Toggle the mark of the item under the cursor, then move to the next item."""
        if self.cursor in self._index_by_key:
            self.mark(self.marked ^ {self.cursor})
            self._select_index(self._cursor_index() + 1)

    def action_mark_all(self) -> None:
        """Mark all items of the grid, or unmark them if all of them are marked."""
        shown = set(self._index_by_key)
        self.mark(self.marked - shown if shown <= self.marked else self.marked | shown)

    def _cursor_index(self) -> int:
        return self._index_by_key.get(self.cursor, 0)

    def _is_visible(self, index: int) -> bool:
        y = index // self.columns * self.row_height - self.scroll_offset.y
        return 0 <= y < self.scrollable_content_region.height

    def _select_index(self, index: int) -> None:
        if 0 <= index < len(self.items):
            self.select(self.key_of(self.items[index]))

    def _update_layout(self) -> None:
        width, height = self.scrollable_content_region.size
        self._strips_by_row.clear()
        self.columns, self.cell_height, self.gap = self.layout_for(width, height)
        self.cell_width = max(1, min(width // self.columns, self.MAX_CELL_WIDTH))
        rows = ceil(len(self.items) / self.columns)
        lines = rows * self.row_height - (self.gap if rows else 0)
        if lines != self.virtual_size.height:
            self.post_message(self.HeightChanged(self, self.cursor))
        self.virtual_size = Size(width, lines)
        self.refresh()

    def _scroll_to_row(self, row: int) -> None:
        top = row * self.row_height
        region = Region(0, top, self.scrollable_content_region.width, self.cell_height)
        self.scroll_to_region(region, animate=False, force=True)

    def _redraw(self, rows: set[int]) -> None:
        width, height = self.scrollable_content_region.size
        top = self.scroll_offset.y
        regions = []
        for row in rows:
            self._strips_by_row.pop(row, None)
            y = row * self.row_height - top
            if y + self.cell_height > 0 and y < height:
                regions.append(Region(0, y, width, self.cell_height))
        if regions:
            self.refresh(*regions)

    def _redraw_in_steps(self, rows: set[int]) -> None:
        """Redraw a few rows in each frame, so that a key press never waits for all of them."""
        in_progress = bool(self._rows_to_redraw)
        visible = self._visible_rows()
        for row in rows - visible:
            self._strips_by_row.pop(row, None)
        self._rows_to_redraw |= rows & visible
        if not in_progress:
            self._redraw_next()

    def _visible_rows(self) -> set[int]:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        return set(range(top // self.row_height, (top + height) // self.row_height + 1))

    def _redraw_next(self) -> None:
        rows = sorted(self._rows_to_redraw)[:_ROWS_PER_FRAME]
        self._rows_to_redraw.difference_update(rows)
        self._redraw(set(rows))
        if self._rows_to_redraw:
            self.call_after_refresh(self._redraw_next)

    def _draw(self, row: int, line: int) -> Strip:
        first = row * self.columns
        segments: list[Segment] = []
        for item in self.items[first : first + self.columns]:
            key = self.key_of(item)
            on_cursor, marked = key == self.cursor, key in self.marked
            bar = "◆" if marked and line == 0 else "▌" if on_cursor else "▎"
            pieces = [(bar, self.edge_style(item)), *self.cell_line(item, line, self.cell_width - 2)]
            drawn = [Segment(text, self._style(name, on_cursor, marked)) for text, name in pieces if text]
            blank = self._style("text", on_cursor, marked)
            used, room = sum(cell_len(text) for text, _ in pieces), self.cell_width - 1
            if used > room:
                drawn = list(Strip(drawn, used).crop(0, room))
            elif used < room:
                drawn.append(Segment(" " * (room - used), blank))
            segments.extend(drawn)
            segments.append(Segment(" ", self._style("text", False)))
        width = self.scrollable_content_region.width
        drawn_width = self.cell_width * len(self.items[first : first + self.columns])
        return Strip(segments, drawn_width).adjust_cell_length(width, self._style("text", False))

    def _style(self, name: str, on_cursor: bool, marked: bool = False) -> Style:
        style = self._styles.get((name, on_cursor, marked))
        if style is None:
            style = self.get_component_rich_style(f"cell--{name}")
            if on_cursor or marked:
                background = "cell--cursor" if on_cursor else "cell--marked"
                style += Style(bgcolor=self.get_component_rich_style(background).bgcolor)
            self._styles[name, on_cursor, marked] = style
        return style


class DensityGrid(CellGrid[T]):
    """A grid whose items take several lines, or one line if there are very many."""

    dense: bool | None = None
    """Whether each item takes one line. None decides by the number of items."""

    @property
    def density(self) -> str:
        """`dense` as a word of the config file: `auto`, `dense` or `roomy`."""
        return "auto" if self.dense is None else "dense" if self.dense else "roomy"

    @density.setter
    def density(self, word: str) -> None:
        self.dense = {"dense": True, "roomy": False}.get(word)
