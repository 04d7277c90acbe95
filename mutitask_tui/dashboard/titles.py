"""Sets the title of a panel, if it is another one.

Textual draws a whole widget anew whenever its title is set, to the same words too: with the grid and the events that
was a third of what a snapshot cost.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from textual.content import Content
from textual.widget import Widget

_shown: WeakKeyDictionary[Widget, Content] = WeakKeyDictionary()


def retitle(widget: Widget, title: str | Content) -> None:
    """Give a panel this title."""
    content = Content(title) if isinstance(title, str) else title
    old = _shown.get(widget)
    if old is None or not old.is_same(content):
        _shown[widget] = content
        widget.border_title = content
