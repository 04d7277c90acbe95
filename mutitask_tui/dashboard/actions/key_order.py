"""Hands keys on one at a time, so that what is typed ahead acts as if it had been typed slowly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message_pump import MessagePump

PATIENCE_S = 3.0
"""A key whose way cannot be followed to its end (its widget is gone, say) holds the next one up for so long."""


class KeyOrderApp(App[str]):
    """Textual hands a key to whatever has the focus when it comes; what that key does takes effect some messages later.

    So a key that was there already, typed over a slow line for instance, would reach what had the focus before: the
    `q` of `:pause_all` Enter `q` would be a letter more in a line that is about to close. Here the next key waits
    until the one before, and the messages that it caused where it went, have been handled.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ahead: deque[events.Key | events.Paste] = deque()
        self._handed_on = 0
        self._under_way = False

    async def on_event(self, event: events.Event) -> None:
        """Let one key at a time pass, and everything else."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._under_way:
            self._ahead.append(event)
            if len(self._ahead) == 1:
                self._be_patient(self._handed_on)
        else:
            await self._hand_on(event)

    async def _hand_on(self, event: events.Key | events.Paste) -> None:
        self._under_way = True
        self._handed_on += 1
        target = self.focused or self.screen
        await super().on_event(event)
        self._follow(self._handed_on, self._stations(target))
        if self._ahead:
            self._be_patient(self._handed_on)

    def _stations(self, target: DOMNode) -> Iterator[MessagePump]:
        """Whose messages are to be handled first: what the key meets, what it caused there, and what it opened."""
        for _ in range(2):
            yield from _upwards(target)
        yield from _upwards(self.focused or self.screen)

    def _follow(self, number: int, stations: Iterator[MessagePump]) -> None:
        """Come by behind the messages of each station in turn, then let the next key pass."""
        for station in stations:
            if station.call_later(self._follow, number, stations):
                return
        self.call_later(self._pass, number)

    def _be_patient(self, number: int) -> None:
        self.set_timer(PATIENCE_S, partial(self._pass, number))

    async def _pass(self, number: int) -> None:
        if number != self._handed_on or not self._under_way:
            return
        self._under_way = False
        if self._ahead:
            await self._hand_on(self._ahead.popleft())


def _upwards(node: DOMNode) -> Iterator[DOMNode]:
    """It and its ancestors, in the order in which a message bubbles."""
    here: DOMNode | None = node
    while here is not None:
        yield here
        here = here.parent
