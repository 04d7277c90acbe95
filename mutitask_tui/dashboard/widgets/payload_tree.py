"""A payload as a tree: opened by and by, so that a big one costs no more than what is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

from rich.text import Text
from textual import on
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from mutitask_tui.dashboard.safe_text import safe_str
from worker_agent.protocol.words import plural

_PAGE = 200
"""So many children are shown at first, and so many more each time."""
_OPEN_AT_FIRST = 40
_LABEL = 300
_LONG = 100
"""A string longer than this opens into its lines."""


class _More:
    """The node that stands for the children that are not shown yet."""

    def __init__(self, rest: Iterator[tuple[str, Any]], left: int) -> None:
        self.rest = rest
        self.left = left


class PayloadTree(Tree[Any]):
    """Shows plain Python data from strangers; every text in it is made harmless."""

    DEFAULT_CSS = """
    PayloadTree {
        background: $background;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 1;
        padding: 0 1;
        &:focus { background-tint: $foreground 0%; }
        & > .tree--cursor, &:focus > .tree--cursor {
            background: $primary 28%;
            color: $foreground;
            text-style: none;
        }
        & > .tree--highlight-line { background: $foreground 4%; }
    }
    """

    auto_expand = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(Text(""), id=id)
        self.guide_depth = 3

    def show_payload(self, payload: object) -> None:
        """Show this payload; its first levels are open."""
        self.clear()
        self.root.set_label(_label("", payload))
        self.root.data = payload
        self.root.allow_expand = _is_branch(payload)
        if not self.root.allow_expand:
            return
        self.root.expand()
        left = _OPEN_AT_FIRST - self._fill(self.root)
        level: list[TreeNode[Any]] = list(self.root.children)
        while level and left > 0:
            deeper: list[TreeNode[Any]] = []
            for node in level:
                if node.allow_expand and left > 0 and _count(node.data) <= left:
                    left -= self._fill(node)
                    node.expand()
                    deeper.extend(node.children)
            level = deeper

    @on(Tree.NodeExpanded)
    def _opened(self, event: Tree.NodeExpanded[Any]) -> None:
        if not event.node.children:
            self._fill(event.node)

    @on(Tree.NodeSelected)
    def _chosen(self, event: Tree.NodeSelected[Any]) -> None:
        node, more = event.node, event.node.data
        if isinstance(more, _More) and node.parent is not None:
            parent = node.parent
            line = node.line
            node.remove()
            self._add(parent, more.rest, more.left)
            self.call_after_refresh(setattr, self, "cursor_line", line)

    def _fill(self, node: TreeNode[Any]) -> int:
        return self._add(node, _children(node.data), _count(node.data))

    def _add(self, node: TreeNode[Any], rest: Iterator[tuple[str, Any]], left: int) -> int:
        """Add the next page of children; how many these were."""
        added = 0
        for name, value in islice(rest, _PAGE):
            branch = _is_branch(value)
            node.add(_label(name, value), data=value, allow_expand=branch)
            added += 1
        if left > added:
            node.add_leaf(Text(f"… {left - added:,} more: Enter", style="italic"), _More(rest, left - added))
        return added


def _is_branch(value: object) -> bool:
    if isinstance(value, str):
        return len(value) > _LONG or "\n" in value
    return isinstance(value, Mapping | list | tuple | set | frozenset) and bool(value)


def _count(value: object) -> int:
    if isinstance(value, str):
        return sum(1 for _ in _lines(value))
    return len(cast("list[Any]", value)) if isinstance(value, Mapping | list | tuple | set | frozenset) else 0


def _children(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str):
        return (("", _Line(line)) for line in _lines(value))
    if isinstance(value, Mapping):
        return ((_short(key), child) for key, child in value.items())
    if isinstance(value, list | tuple):
        return ((str(place), child) for place, child in enumerate(value))
    if isinstance(value, set | frozenset):
        return (("", child) for child in value)
    return iter(())


class _Line(bytes):
    """A stretch of a long string: shown as it is, without quotes."""

    text: str

    def __new__(cls, text: str) -> _Line:
        """Keep the text beside no bytes at all."""
        line = super().__new__(cls)
        line.text = text
        return line


def _lines(text: str) -> Iterator[str]:
    """The lines of a string, long ones in pieces."""
    for line in text.split("\n"):
        for start in range(0, max(1, len(line)), _LONG):
            yield line[start : start + _LONG]


def _label(name: str, value: object) -> Text:
    label = Text(no_wrap=True)
    if name:
        label.append(f"{name}: ", "bold")
    if isinstance(value, _Line):
        label.append(safe_str(value.text, _LABEL))
    elif isinstance(value, Mapping):
        label.append(f"{{{plural(len(value), 'key')}}}", "dim")
    elif isinstance(value, list | tuple | set | frozenset):
        label.append(f"{type(value).__name__} of {len(value):,}", "dim")
    elif isinstance(value, str):
        label.append(_short(value))
        if _is_branch(value):
            label.append(f"  {len(value):,} characters", "dim")
    elif isinstance(value, bytes | bytearray | memoryview):
        label.append(safe_str(bytes(value[:_LONG]), _LABEL))
        label.append(f"  {plural(len(value), 'byte')}", "dim")
    else:
        label.append(_short(value))
        if value is not None and not isinstance(value, bool | int | float):
            label.append(f"  {safe_str(type(value).__name__, 40)}", "dim")
    return label


def _short(value: object) -> str:
    """A scalar as one types it, cut; what cannot be shown is named."""
    if isinstance(value, str):
        cut = f"{value[:_LONG]}…" if len(value) > _LONG else value
        return f'"{safe_str(cut, _LABEL)}"'
    try:
        return safe_str(repr(value), _LABEL)
    except Exception as error:  # a stranger's number may be too long for text
        return f"<{type(value).__name__}: {type(error).__name__}>"
