"""A tree view of a payload. It adds nodes only when they are shown, so that large payloads stay cheap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

from rich.text import Text
from textual import on
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from mutitask_tui.dashboard.safe_text import safe_str
from worker_agent.protocol.text import plural

_PAGE_SIZE = 200
"""How many children of a node are added at a time."""
_NODES_AT_FIRST = 40
"""Levels are expanded at first while the tree has at most this many nodes."""
_MAX_LABEL = 300
"""The most characters of a label."""
_LINE_LENGTH = 100
"""A longer string is a branch: its children are pieces of this many characters."""


class _More:
    """The data of the node that stands for children that are not added yet."""

    def __init__(self, rest: Iterator[tuple[str, Any]], left: int) -> None:
        self.rest = rest
        self.left = left


class PayloadTree(Tree[Any]):
    """Show untrusted Python data as a tree. All texts are sanitized."""

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
    """Expand a node when it is selected."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(Text(""), id=id)
        self.guide_depth = 3

    def show_payload(self, payload: object) -> None:
        """Show this payload with its first levels expanded."""
        self.clear()
        self.root.set_label(_label("", payload))
        self.root.data = payload
        self.root.allow_expand = _is_branch(payload)
        if not self.root.allow_expand:
            return
        self.root.expand()
        remaining = _NODES_AT_FIRST - self._add_first_page(self.root)
        level: list[TreeNode[Any]] = list(self.root.children)
        while level and remaining > 0:
            deeper: list[TreeNode[Any]] = []
            for node in level:
                if node.allow_expand and remaining > 0 and _count(node.data) <= remaining:
                    remaining -= self._add_first_page(node)
                    node.expand()
                    deeper.extend(node.children)
            level = deeper

    @on(Tree.NodeExpanded)
    def _node_expanded(self, event: Tree.NodeExpanded[Any]) -> None:
        if not event.node.children:
            self._add_first_page(event.node)

    @on(Tree.NodeSelected)
    def _node_selected(self, event: Tree.NodeSelected[Any]) -> None:
        node, more = event.node, event.node.data
        if isinstance(more, _More) and node.parent is not None:
            parent = node.parent
            line = node.line
            node.remove()
            self._add_page(parent, more.rest, more.left)
            self.call_after_refresh(setattr, self, "cursor_line", line)

    def _add_first_page(self, node: TreeNode[Any]) -> int:
        return self._add_page(node, _children(node.data), _count(node.data))

    def _add_page(self, node: TreeNode[Any], rest: Iterator[tuple[str, Any]], left: int) -> int:
        """Add the next page of children to a node. Return how many were added."""
        added = 0
        for name, value in islice(rest, _PAGE_SIZE):
            branch = _is_branch(value)
            node.add(_label(name, value), data=value, allow_expand=branch)
            added += 1
        if left > added:
            node.add_leaf(Text(f"… {left - added:,} more: Enter", style="italic"), _More(rest, left - added))
        return added


def _is_branch(value: object) -> bool:
    if isinstance(value, str):
        return len(value) > _LINE_LENGTH or "\n" in value
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
        return ((str(index), child) for index, child in enumerate(value))
    if isinstance(value, set | frozenset):
        return (("", child) for child in value)
    return iter(())


class _Line:
    """A piece of a long string. It is shown without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a string. Long lines are cut into pieces."""
    for line in text.split("\n"):
        for start in range(0, max(1, len(line)), _LINE_LENGTH):
            yield line[start : start + _LINE_LENGTH]


def _label(name: str, value: object) -> Text:
    label = Text(no_wrap=True)
    if name:
        label.append(f"{name}: ", "bold")
    if isinstance(value, _Line):
        label.append(safe_str(value.text, _MAX_LABEL))
    elif isinstance(value, Mapping):
        label.append(f"{{{plural(len(value), 'key')}}}", "dim")
    elif isinstance(value, list | tuple | set | frozenset):
        label.append(f"{type(value).__name__} of {len(value):,}", "dim")
    elif isinstance(value, str):
        label.append(_short(value))
        if _is_branch(value):
            label.append(f"  {len(value):,} characters", "dim")
    elif isinstance(value, bytes | bytearray | memoryview):
        label.append(safe_str(bytes(value[:_LINE_LENGTH]), _MAX_LABEL))
        label.append(f"  {plural(len(value), 'byte')}", "dim")
    else:
        label.append(_short(value))
        if value is not None and not isinstance(value, bool | int | float):
            label.append(f"  {safe_str(type(value).__name__, 40)}", "dim")
    return label


def _short(value: object) -> str:
    """Return a scalar as a Python literal, cut to the label length, or the error if it has none."""
    if isinstance(value, str):
        cut = f"{value[:_LINE_LENGTH]}…" if len(value) > _LINE_LENGTH else value
        return f'"{safe_str(cut, _MAX_LABEL)}"'
    try:
        return safe_str(repr(value), _MAX_LABEL)
    except Exception as error:  # such as an integer with too many digits
        return f"<{type(value).__name__}: {type(error).__name__}>"
