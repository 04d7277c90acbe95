"""Sets the title of a panel only if it has changed.

Textual redraws the whole widget whenever its title is set, even to the same text. For the grid and the event log that
was a third of the cost of a snapshot.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from textual.content import Content
from textual.widget import Widget

_titles: WeakKeyDictionary[Widget, Content] = WeakKeyDictionary()


def retitle(widget: Widget, title: str | Content) -> None:
    """Set the title of a panel."""
    content = Content(title) if isinstance(title, str) else title
    old = _titles.get(widget)
    if old is None or not old.is_same(content):
        _titles[widget] = content
        widget.border_title = content
