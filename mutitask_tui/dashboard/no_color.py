"""What NO_COLOR asks for: no colours at all. Textual by itself would show the theme in greys."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_DEFAULTS = Style.from_color(RichColor.default(), RichColor.default())


class NoColour(LineFilter):
    """Takes every colour away. What stands on a bright ground in a dark theme, or on a dark one in a light theme,
    is shown in reverse: it is a cursor, a focused button, a chosen line."""

    def __init__(self, is_dark: Callable[[], bool]) -> None:
        super().__init__()
        self._is_dark = is_dark

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text without colours."""
        dark = self._is_dark()
        return [
            Segment(text, None if style is None else _plain(style, dark), control)
            for text, style, control in segments
        ]


@lru_cache(2048)
def _plain(style: Style, dark: bool) -> Style:
    ground = style.bgcolor
    if ground is None or ground.is_default or ground.triplet is None:
        return style + _DEFAULTS
    stands_out = (Color.from_rich_color(ground).brightness > 0.5) == dark
    return style + _DEFAULTS + Style(reverse=stands_out != bool(style.reverse))
