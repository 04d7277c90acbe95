"""The footer, without the keys that do not fit as a whole."""

from __future__ import annotations

from textual.widgets import Footer
from textual.widgets._footer import FooterLabel, KeyGroup


class KeyBar(Footer):
    """Textual's Footer; what would be cut off at the edge is not shown, `?` tells the rest."""

    DEFAULT_CSS = """
    KeyBar { overflow: hidden hidden; }
    """

    def on_resize(self) -> None:
        """Another width holds other keys."""
        self.call_after_refresh(self._hide_what_is_cut)

    async def recompose(self) -> None:
        """Look at the edge again whenever the keys changed."""
        await super().recompose()
        self.call_after_refresh(self._hide_what_is_cut)

    def _hide_what_is_cut(self) -> None:
        docked = [child for child in self.children if child.has_class("-command-palette")]
        edge = self.size.width - sum(child.outer_size.width for child in docked)
        fits = True
        group: KeyGroup | None = None
        for child in self.children:
            if child in docked:
                continue
            right = child.virtual_region_with_margin.right
            fits = fits and right <= edge
            child.visible = fits
            if not fits and isinstance(child, FooterLabel) and group is not None:
                group.visible = False
            group = child if isinstance(child, KeyGroup) else None
