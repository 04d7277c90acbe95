"""The filter of words that `/` takes: words that a text must hold, and `!words` that it must not."""

from __future__ import annotations

from collections.abc import Callable


def matcher(filter_text: str) -> Callable[[str], bool]:
    """Return a test for texts in lower case: each word must occur, and no `!word` may occur."""
    words = filter_text.casefold().split()
    excluded = [word[1:] for word in words if word.startswith("!") and len(word) > 1]
    required = [word for word in words if not word.startswith("!")]

    def fits(text: str) -> bool:
        return all(word in text for word in required) and not any(word in text for word in excluded)

    return fits


def matches(text: str, filter_text: str) -> bool:
    """Whether `text` passes the filter. Case does not matter."""
    return matcher(filter_text)(text.casefold())
