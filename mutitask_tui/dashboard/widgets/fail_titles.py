"""The titles of the lists of failed tasks: what is listed, of how many, and how far a search is."""

from __future__ import annotations

from textual.content import Content

from mutitask_tui.dashboard.model.fail_search import FailSearch
from mutitask_tui.dashboard.safe_text import safe_str
from worker_agent.protocol.text import plural


def progress(verb: str, done: int, total: int, *, running: bool) -> str:
    """Return how far a walk is, such as `searched 120,000 of 1,000,000 (Esc stops it)`."""
    end = "Esc stops it" if running else "stopped, F5 starts again"
    return f"{verb} {done:,} of {max(done, total):,} ({end})"


def filter_summary(search: FailSearch | None, total: int) -> str:
    """Return the group and the filter in words, and how far the search is; '' if there is no search."""
    if search is None:
        return ""
    far = "" if search.whole else progress("searched", search.searched, total, running=search.running)
    return ", ".join(filter(None, (_filter_words(search), far)))


def tasks_title(channel: int | None, search: FailSearch | None, listed: int, total: int) -> Content:
    """Return the title of the list of `listed` tasks, of `total` that have failed."""
    where = _where(channel)
    if search is None:
        of = f" of {total:,}" if total > listed else ""
        return Content(f"Failed tasks of {where}: {listed:,}{of}, newest first")
    head = f"Failed tasks of {where}"
    if not search.whole:  # A narrow title is cut at its end. The progress comes first, because it changes.
        head = progress("Searched", search.searched, total, running=search.running) + _of(channel)
    part = f", the newest {listed:,} listed" if listed < search.count else ""
    return Content.assemble(f"{head}: ", (f"{search.count:,} {_filter_words(search)}{part}", "$text-accent"))


def groups_title(channel: int | None, number: int, listed: int, walk: str) -> Content:
    """Return the title of the list of groups. `walk` is how far the count is, '' once it is complete."""
    found = plural(number, "group") + (f", the largest {listed:,} listed" if listed < number else "")
    if not walk:
        return Content(f"Failed tasks of {_where(channel)} in {found}")
    return Content.assemble((walk, "$text-accent"), f"{_of(channel)}: {found}")


def _where(channel: int | None) -> str:
    return "all channels" if channel is None else f"TaskChannel{channel}"


def _of(channel: int | None) -> str:
    return "" if channel is None else f" of {_where(channel)}"


def _filter_words(search: FailSearch) -> str:
    words = []
    if search.group is not None:
        where = safe_str(search.group.location, 60)
        words.append(f"{safe_str(search.group.error_type or search.group.stage, 30)} at {where}")
    if search.filter_text.strip():
        words.append(f"match /{safe_str(search.filter_text, 30)}")
    return ", ".join(words)
