"""Finds which bodies that are stored apart the lists of a namespace name, without stopping the work on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mutitask_tui.server.reader import Reader
from worker_agent.protocol.bodies import key_prefix
from worker_agent.protocol.errors import InvalidRedisReply
from worker_agent.protocol.keys import ChannelKeys
from worker_agent.protocol.replies import to_dict
from worker_agent.protocol.settlements import unsettled_items

PAGE = 1_000
"""How many items are read at once."""
MAX_UNKNOWN = 100_000
"""The most named bodies that one search checks for their existence."""

_NAME = re.compile(rb"([0-9]{1,6}):([A-Za-z0-9]{8})([0-9]{12}):")
_ID = slice(2, 22)
"""Where the id stands in an item with a valid header."""


def owner_of(key: bytes, prefix: bytes) -> tuple[int, str, int] | None:
    """Return channel, run and number of the task that a body's key names, or None if it names none."""
    found = _NAME.match(key, len(prefix))
    if found is None or not key.startswith(prefix):
        return None
    return int(found[1]), found[2].decode(), int(found[3])


class BodyReferences:
    """One search for the bodies that lists name.

    Tasks move meanwhile, so a list is read from the end at which no item leaves: an item that stays is not passed over,
    and one that leaves comes to a list that is read later. A task may still get by, so one search proves nothing.
    """

    def __init__(self, reader: Reader, stored: set[bytes], candidates: set[bytes]) -> None:
        self.unnamed = set(candidates)
        """Those of `candidates` that no list names as far as was read."""
        self.unknown: set[bytes] = set()
        """Bodies that lists name and that are not in `stored`. They were stored later, or they are missing."""
        self._reader = reader
        self._stored = stored
        self._prefix = key_prefix(reader.name)
        self._of_task: dict[bytes, list[bytes]] = {}
        for key in candidates:
            self._of_task.setdefault(self._task_in(key), []).append(key)

    def read_channel(self, channel: int, *, results: bool = True) -> None:
        """Read the lists of a channel. The waiting and the claimed tasks come twice: tasks go back and forth."""
        at = self._reader.keys.channel(channel)
        self._read_waiting_and_claims(channel, at)
        for items in self._from_the_end(at.delayed, by_score=True):
            self._name(channel, items)
        self._read_failed(channel, at)
        if results:
            for items in self._from_the_end(at.results):
                self._name(channel, items)
        self._read_waiting_and_claims(channel, at)

    def _read_waiting_and_claims(self, channel: int, at: ChannelKeys) -> None:
        for items in self._from_the_end(at.waiting):
            self._name(channel, items)
        for actor in self._reader.query("HKEYS", at.claim_counts):
            claims = to_dict(self._reader.query("HGETALL", at.claims(actor.decode("utf-8", "replace"))))
            try:
                items = unsettled_items(claims)
            except (ValueError, LookupError):
                continue  # Not written by an agent of ours.
            self._name(channel, items)
            # The body of the task's result may be stored, and its settlement on its way.
            self._keep_all_of(channel, [item[_ID] for item in items])

    def _read_failed(self, channel: int, at: ChannelKeys) -> None:
        cursor: bytes | int = 0
        while True:
            cursor, found = self._reader.query("HSCAN", at.failed, cursor, "COUNT", PAGE)
            tasks = to_dict(found)
            self._name(channel, list(tasks.values()))
            # An edited body may be stored, and the edit on its way.
            self._keep_all_of(channel, list(tasks))
            if int(cursor) == 0:
                return

    def _from_the_end(self, key: str, *, by_score: bool = False) -> Iterator[list[bytes]]:
        """Yield all items of a list or sorted set, the last ones first. Large items come in smaller pages."""
        start, count = 0, PAGE
        while True:
            if by_score:
                command: tuple[Any, ...] = ("ZRANGE", key, start, start + count - 1, "REV")
            else:
                command = ("LRANGE", key, -start - count, -start - 1)
            try:
                found: list[bytes] = self._reader.query(*command)
            except InvalidRedisReply:
                if count == 1:
                    raise
                count = (count + 1) // 2
                continue
            if not found:
                return
            yield found
            start += len(found)

    def _name(self, channel: int, items: Sequence[bytes]) -> None:
        """Note the bodies of these items as named."""
        for key in self._reader.bodies.keys(channel, items):
            self.unnamed.discard(key)
            if key not in self._stored and len(self.unknown) < MAX_UNKNOWN:
                self.unknown.add(key)

    def _keep_all_of(self, channel: int, ids: Sequence[bytes]) -> None:
        """Note every body of these tasks as named."""
        if self._of_task:
            for id_ in ids:
                self.unnamed.difference_update(self._of_task.get(b"%d:%b" % (channel, id_), ()))

    def _task_in(self, key: bytes) -> bytes:
        """Return channel and id in a body's key."""
        found = _NAME.match(key, len(self._prefix))
        return b"" if found is None else b"%d:%b%b" % (int(found[1]), found[2], found[3])
