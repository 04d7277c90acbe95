"""Delivers keys one at a time, so that keys typed ahead act as if they were typed slowly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message_pump import MessagePump

TIMEOUT_S = 3.0
"""How long the next key waits for a key whose messages cannot be followed, for example because its widget is gone."""


class KeyOrderApp(App[str]):
    """An app in which each key waits until the one before it has taken effect.

    Textual sends a key to the widget that has the focus when the key arrives, but the key takes effect some messages
    later. So a key typed ahead, for instance over a slow connection, would reach the widget that had the focus
    before: in `:pause_all` Enter `q`, the `q` would become a letter in the command line that is about to close. Here
    the next key waits until the previous one and the messages that it caused have been handled.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting_keys: deque[events.Key | events.Paste] = deque()
        self._delivered = 0
        self._key_in_progress = False

    async def on_event(self, event: events.Event) -> None:
        """Deliver keys one at a time, and every other event at once."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_in_progress:
            self._waiting_keys.append(event)
            if len(self._waiting_keys) == 1:
                self._set_timeout(self._delivered)
        else:
            await self._deliver(event)

    async def _deliver(self, event: events.Key | events.Paste) -> None:
        self._key_in_progress = True
        self._delivered += 1
        target = self.focused or self.screen
        await super().on_event(event)
        self._follow(self._delivered, self._nodes_to_follow(target))
        if self._waiting_keys:
            self._set_timeout(self._delivered)

    def _nodes_to_follow(self, target: DOMNode) -> Iterator[MessagePump]:
        """Yield the nodes whose messages must be handled first.

        The first pass covers the key itself, the second the messages that it caused, the last what it opened.
        """
        for _ in range(2):
            yield from _upwards(target)
        yield from _upwards(self.focused or self.screen)

    def _follow(self, number: int, nodes: Iterator[MessagePump]) -> None:
        """Wait behind the queued messages of each node in turn, then release the next key."""
        for node in nodes:
            if node.call_later(self._follow, number, nodes):
                return
        self.call_later(self._release_next, number)

    def _set_timeout(self, number: int) -> None:
        self.set_timer(TIMEOUT_S, partial(self._release_next, number))

    async def _release_next(self, number: int) -> None:
        if number != self._delivered or not self._key_in_progress:
            return
        self._key_in_progress = False
        if self._waiting_keys:
            await self._deliver(self._waiting_keys.popleft())


def _upwards(node: DOMNode) -> Iterator[DOMNode]:
    """Yield a node and its ancestors, in the order in which a message bubbles."""
    current: DOMNode | None = node
    while current is not None:
        yield current
        current = current.parent
