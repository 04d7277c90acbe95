"""A grid of equal cells drawn by the line API: a thousand of them cost what the visible ones cost."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from math import ceil
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

T = TypeVar("T")

Piece = tuple[str, str]
"""A stretch of a line: its text, and the component class without `cell--` that colours it."""

Key = Hashable
"""What stays the same about an item: a number, or a pair of them."""

_ROWS_A_FRAME = 8
"""Eight rows of a wide terminal take about 4 ms to draw."""

_LOOKS = ("text", "title", "faint", "good", "calm", "warn", "bad", "loud")


class CellGrid(ScrollView, Generic[T], can_focus=True):
    """Shows items in cells. The cursor stays on its item's key when items come, go or move."""

    MIN_CELL_WIDTH: ClassVar[int] = 20
    MAX_CELL_WIDTH: ClassVar[int] = 400

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"cell--{look}" for look in _LOOKS),
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

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(0, -1)", "Up", show=False),
        Binding("down", "move(0, 1)", "Down", show=False),
        Binding("left", "move(-1, 0)", "Left", show=False),
        Binding("right", "move(1, 0)", "Right", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "jump(0)", "First", show=False),
        Binding("end", "jump(-1)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
        Binding("space", "mark", "Mark", show=False),
        Binding("asterisk", "mark_all", "Mark all", show=False),
    ]

    class Highlighted(Message):
        """The cursor stands on another item."""

        def __init__(self, grid: CellGrid[Any], key: Any) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> CellGrid[Any]:
            """The grid whose cursor moved."""
            return self.grid

    class Opened(Highlighted):
        """A person asked for an item's details."""

    class Arranged(Highlighted):
        """All items together take another number of lines now."""

    class Marked(Highlighted):
        """Other items are marked now."""

    cursor: Reactive[Any] = Reactive(None, repaint=False)
    """The key of the item under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.items: tuple[T, ...] = ()
        self.marked: set[Key] = set()
        """The keys of the items that a person marked, whether they can be seen or not."""
        self.columns = 1
        self.cell_width = 1
        self.cell_height = 1
        self.gap = 0
        """Blank lines between rows."""
        self._index: dict[Key, int] = {}
        self._rows: dict[int, list[Strip]] = {}
        self._to_redraw: set[int] = set()
        """Rows whose turn has not come yet."""
        self._styles: dict[tuple[str, bool, bool], Style] = {}

    @abstractmethod
    def key_of(self, item: T) -> Key:
        """What stays the same about an item."""

    @abstractmethod
    def cell_line(self, item: T, line: int, width: int) -> list[Piece]:
        """One line of an item's cell, about `width` cells wide."""

    def edge_of(self, item: T) -> str:
        """The look of the bar at the cell's left edge."""
        return "faint"

    def layout_for(self, width: int, height: int) -> tuple[int, int, int]:
        """Columns, lines of a cell and blank lines under it, for a room of that size."""
        return self.columns_of(self.MIN_CELL_WIDTH, width), self.cell_height, 0

    def columns_of(self, cell_width: int, width: int) -> int:
        """How many columns of at least `cell_width` the items take."""
        return max(1, min(width // cell_width, len(self.items)))

    @property
    def selected(self) -> T | None:
        """The item under the cursor."""
        index = self._index.get(self.cursor)
        return None if index is None else self.items[index]

    @property
    def pitch(self) -> int:
        """Lines from one row to the next."""
        return self.cell_height + self.gap

    def show(self, items: Sequence[T]) -> None:
        """Show these items now; only rows that differ and can be seen are drawn again."""
        old, self.items = self.items, tuple(items)
        place = self._place()
        followed = self.cursor in self._index and self._can_be_seen(place)
        self._index = {self.key_of(item): i for i, item in enumerate(self.items)}
        if len(old) != len(self.items):
            self._arrange()
        else:
            changed = {
                i // self.columns
                for i, (was, now) in enumerate(zip(old, self.items, strict=True))
                if was is not now and was != now
            }
            self._redraw_in_turn(changed)
        if self.cursor not in self._index:
            key = self.key_of(self.items[min(place, len(self.items) - 1)]) if self.items else None
            self.select(key, scroll=False)
        elif followed and self._index[self.cursor] != place:
            self._scroll_to_row(self._index[self.cursor] // self.columns)

    def select(self, key: Key | None, *, scroll: bool = True) -> None:
        """Put the cursor on the item with that key."""
        if key == self.cursor:
            return
        was, self.cursor = self.cursor, key
        places = [self._index[k] for k in (was, key) if k in self._index]
        self._redraw({place // self.columns for place in places})
        if scroll and key in self._index:
            self._scroll_to_row(self._index[key] // self.columns)
        self.post_message(self.Highlighted(self, key))

    def mark(self, keys: set[Key]) -> None:
        """Mark exactly these items."""
        if keys == self.marked:
            return
        changed = keys ^ self.marked
        self.marked = set(keys)
        self._redraw({self._index[key] // self.columns for key in changed if key in self._index})
        self.post_message(self.Marked(self, self.cursor))

    @property
    def keys(self) -> list[Key]:
        """The keys of the items, in their order."""
        return list(self._index)

    def render_line(self, y: int) -> Strip:
        """The strip at line `y` of what can be seen."""
        row, line = divmod(self.scroll_offset.y + y, self.pitch)
        if row * self.columns >= len(self.items) or line >= self.cell_height:
            return Strip.blank(self.scrollable_content_region.width, self._style("text", False))
        strips = self._rows.get(row)
        if strips is None:
            strips = self._rows[row] = [self._draw(row, n) for n in range(self.cell_height)]
        return strips[line]

    def notify_style_update(self) -> None:
        """A theme changed: nothing drawn before holds."""
        super().notify_style_update()
        self._styles.clear()
        self._rows.clear()

    def on_resize(self) -> None:
        """Lay the cells out anew."""
        self._arrange()

    def on_focus(self) -> None:
        """The cursor looks different with the focus."""
        self.notify_style_update()

    def on_blur(self) -> None:
        """The cursor looks different without the focus."""
        self.notify_style_update()

    def on_click(self, event: events.Click) -> None:
        """Select by a click, open by a second one."""
        row = (event.y + self.scroll_offset.y) // self.pitch
        column = event.x // self.cell_width
        place = row * self.columns + column
        if column >= self.columns or not 0 <= place < len(self.items):
            return
        self.select(self.key_of(self.items[place]))
        if event.chain == 2:
            self.action_open()

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor by so many cells."""
        if not self.items:
            return
        place = self._place()
        target = place + across + down * self.columns
        if 0 <= target < len(self.items):
            self._go(target)
        elif down > 0 and place // self.columns < (len(self.items) - 1) // self.columns:
            self._go(len(self.items) - 1)

    def action_page(self, pages: int) -> None:
        """Move the cursor by a screenful."""
        rows = max(1, self.scrollable_content_region.height // self.pitch)
        place = self._place() + pages * rows * self.columns
        self._go(min(max(place, 0), len(self.items) - 1))

    def action_jump(self, place: int) -> None:
        """Move the cursor to the first or the last item."""
        self._go(place if place >= 0 else len(self.items) - 1)

    def action_open(self) -> None:
        """Ask for the selected item's details."""
        if self.cursor in self._index:
            self.post_message(self.Opened(self, self.cursor))

    def action_mark(self) -> None:
        """Mark the item under the cursor, or take its mark away, and go on to the next."""
        if self.cursor in self._index:
            self.mark(self.marked ^ {self.cursor})
            self._go(self._place() + 1)

    def action_mark_all(self) -> None:
        """Mark all that is shown; where all of it is marked, nothing."""
        shown = set(self._index)
        self.mark(self.marked - shown if shown <= self.marked else self.marked | shown)

    def _place(self) -> int:
        return self._index.get(self.cursor, 0)

    def _can_be_seen(self, place: int) -> bool:
        y = place // self.columns * self.pitch - self.scroll_offset.y
        return 0 <= y < self.scrollable_content_region.height

    def _go(self, place: int) -> None:
        if 0 <= place < len(self.items):
            self.select(self.key_of(self.items[place]))

    def _arrange(self) -> None:
        width, height = self.scrollable_content_region.size
        self._rows.clear()
        self.columns, self.cell_height, self.gap = self.layout_for(width, height)
        self.cell_width = max(1, min(width // self.columns, self.MAX_CELL_WIDTH))
        rows = ceil(len(self.items) / self.columns)
        lines = rows * self.pitch - (self.gap if rows else 0)
        if lines != self.virtual_size.height:
            self.post_message(self.Arranged(self, self.cursor))
        self.virtual_size = Size(width, lines)
        self.refresh()

    def _scroll_to_row(self, row: int) -> None:
        top = row * self.pitch
        region = Region(0, top, self.scrollable_content_region.width, self.cell_height)
        self.scroll_to_region(region, animate=False, force=True)

    def _redraw(self, rows: set[int]) -> None:
        width, height = self.scrollable_content_region.size
        top = self.scroll_offset.y
        regions = []
        for row in rows:
            self._rows.pop(row, None)
            y = row * self.pitch - top
            if y + self.cell_height > 0 and y < height:
                regions.append(Region(0, y, width, self.cell_height))
        if regions:
            self.refresh(*regions)

    def _redraw_in_turn(self, rows: set[int]) -> None:
        """Redraw a few rows with each frame: a key that is pressed meanwhile is not kept waiting for all of them."""
        begun = bool(self._to_redraw)
        seen = self._rows_in_sight()
        for row in rows - seen:
            self._rows.pop(row, None)
        self._to_redraw |= rows & seen
        if not begun:
            self._redraw_next()

    def _rows_in_sight(self) -> set[int]:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        return set(range(top // self.pitch, (top + height) // self.pitch + 1))

    def _redraw_next(self) -> None:
        rows = sorted(self._to_redraw)[:_ROWS_A_FRAME]
        self._to_redraw.difference_update(rows)
        self._redraw(set(rows))
        if self._to_redraw:
            self.call_after_refresh(self._redraw_next)

    def _draw(self, row: int, line: int) -> Strip:
        first = row * self.columns
        segments: list[Segment] = []
        for item in self.items[first : first + self.columns]:
            key = self.key_of(item)
            on_cursor, marked = key == self.cursor, key in self.marked
            bar = "◆" if marked and line == 0 else "▌" if on_cursor else "▎"
            pieces = [(bar, self.edge_of(item)), *self.cell_line(item, line, self.cell_width - 2)]
            drawn = [Segment(text, self._style(look, on_cursor, marked)) for text, look in pieces if text]
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

    def _style(self, look: str, on_cursor: bool, marked: bool = False) -> Style:
        style = self._styles.get((look, on_cursor, marked))
        if style is None:
            style = self.get_component_rich_style(f"cell--{look}")
            if on_cursor or marked:
                ground = "cell--cursor" if on_cursor else "cell--marked"
                style += Style(bgcolor=self.get_component_rich_style(ground).bgcolor)
            self._styles[look, on_cursor, marked] = style
        return style
