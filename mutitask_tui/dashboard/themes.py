"""The dashboard's colours: two themes, and none at all where NO_COLOR asks for it.

The themes use Okabe and Ito's colours, which colour-blind people can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

DARK = Theme(
    name="mutitask",
    primary="#56B4E9",
    secondary="#0072B2",
    accent="#56B4E9",
    success="#2DB58C",
    warning="#E69F00",
    error="#E8743B",
    foreground="#D8DEE4",
    background="#0E1116",
    surface="#151A21",
    panel="#1E252E",
    dark=True,
    variables={"border": "#3A4654", "border-blurred": "#2A333D", "footer-key-foreground": "#56B4E9"},
)

LIGHT = Theme(
    name="mutitask-light",
    primary="#0072B2",
    secondary="#56B4E9",
    accent="#0072B2",
    success="#00795A",
    warning="#8F5F00",
    error="#B54200",
    foreground="#1B232B",
    background="#FBFBF9",
    surface="#F3F3EF",
    panel="#E7E7E1",
    dark=False,
    variables={"border": "#A9B0B6", "border-blurred": "#CACDCF", "footer-key-foreground": "#0072B2"},
)

THEMES = (DARK, LIGHT)

_DEFAULT_COLORS = Style.from_color(RichColor.default(), RichColor.default())


class NoColour(LineFilter):
    """Removes every colour, as NO_COLOR asks for; Textual by itself would show greys.

    Text on a bright background in a dark theme, or on a dark one in a light theme, is shown in reverse video: it is
    a cursor, a focused button or a selected line.
    """

    def __init__(self, is_dark: Callable[[], bool]) -> None:
        super().__init__()
        self._is_dark = is_dark

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the same text without colours."""
        dark = self._is_dark()
        return [
            Segment(text, None if style is None else _plain(style, dark), control)
            for text, style, control in segments
        ]


@lru_cache(2048)
def _plain(style: Style, dark: bool) -> Style:
    background = style.bgcolor
    if background is None or background.is_default or background.triplet is None:
        return style + _DEFAULT_COLORS
    highlighted = (Color.from_rich_color(background).brightness > 0.5) == dark
    return style + _DEFAULT_COLORS + Style(reverse=highlighted != bool(style.reverse))
