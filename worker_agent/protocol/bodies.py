"""Large bodies, which are stored apart from their items, by plain commands under keys without the hash tag.

No script touches them: Lua would copy each body several times. On a cluster, their keys spread over all masters.
A body is stored before its item is pushed or settled, and removed behind the script that ended the task or drained the
result. What this leaves behind when a process dies in between is removed by the server's sweep.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from worker_agent.protocol import list_item, wire
from worker_agent.protocol.connection.guard import MalformedReply, ReplyTooLarge
from worker_agent.protocol.connection.plain import Command, NodeFailed, PlainCommands
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.errors import InvalidRedisReply, MutiTaskError
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.replies import check_command_reply

APART_BYTES = 6 * 1024
"""An item from this size on is pushed without its body. `docs/performance.md` has the measurements."""
PACKET_BYTES = 16 * 1024 * 1024
"""About how many bytes of bodies one command stores or fetches."""
_PIECE = 1_000
"""The most commands in one packet."""
_APART = re.compile(
    rb"M1([A-Za-z0-9]{8}[0-9]{12})[0-9]{3}(?:o[a-z0-9.]*;)?b([0-9]{8})([A-Za-z0-9.:_-]{1,100})"
)
_form = itemgetter(list_item.HEADER_BYTES - 1)
_ONLY_INLINE = frozenset(list_item.INLINE)


def key_prefix(name: str) -> bytes:
    """Return how the key of every body of a namespace begins. It is no hash tag."""
    return f"mt:{name}:body:".encode()


def body_key(name: str, channel: int, id_: str, ending: str) -> bytes:
    """Return the key of a body. `id_` is the task's id, `ending` tells several bodies of one task apart."""
    return key_prefix(name) + f"{channel}:{id_}:{ending}".encode()


def result_ending(actor: str) -> str:
    """Return the ending of a result's body: an actor settles a task at most once."""
    return f"r.{actor}"


RESULT_MARK = b":r."
"""Stands in the key of each result's body, and in no other."""


def new_ending() -> str:
    """Return an ending that no other body has, for a task with a new body: its old body may still be read."""
    return secrets.token_hex(8)


def apart_form(size: int, ending: str) -> bytes:
    """Return what stands behind the header of an item in place of a body of that size."""
    return b"%b%08d%b" % (list_item.APART, size, ending.encode("ascii"))


def body_of(item: bytes) -> memoryview:
    """Return the inline body of an item, which is not copied."""
    return memoryview(item)[list_item.form_at(item) + 1 :]


class Place(NamedTuple):
    """Where the body of an item is, and its size as the item says."""

    key: bytes
    size: int


class Bodies:
    """Stores, fetches and removes the bodies of one namespace.

    Raises MutiTask's errors; a fault of one node of a cluster names that node. Repeats nothing: every method can be
    called again.
    """

    def __init__(self, client: Any, name: str, address: str) -> None:
        self._client = client
        self._prefix = key_prefix(name)
        self._address = address
        self._made: PlainCommands | None = None

    def place(self, channel: int, item: bytes) -> Place | None:
        """Return where an item's body is. None if the body is inline or the item is not valid."""
        found = _APART.fullmatch(item)
        if found is None:
            return None
        id_, size, ending = found.groups()
        return Place(b"%b%d:%b:%b" % (self._prefix, channel, id_, ending), int(size))

    def keys(self, channel: int, items: Iterable[bytes]) -> list[bytes]:
        """Return the keys of those of the items' bodies that are apart."""
        return [place.key for item in items if (place := self.place(channel, item)) is not None]

    def store(self, bodies: Mapping[bytes, bytes | memoryview]) -> dict[bytes, MutiTaskError]:
        """Store bodies by their keys. Return those that Redis refused for lack of memory, with its refusal."""
        refused: dict[bytes, MutiTaskError] = {}
        groups = self._groups(list(bodies), bodies)

        def receive(index: int, reply: Any) -> None:
            if isinstance(reply, OutOfMemoryError):
                refused.update(dict.fromkeys(groups[index], translate(reply, self._address)))
            elif isinstance(reply, ResponseError):
                raise reply
            else:
                check_command_reply(("MSET",), reply)

        commands: list[Command] = []
        for group in groups:
            pairs = [part for key in group for part in (key, bodies[key])]
            commands.append(("MSET", *pairs))
        self._send(commands, receive)
        return refused

    def fetch(
        self, wanted: Mapping[bytes, int], found: MutableMapping[bytes, bytes], unlink: Sequence[bytes] = ()
    ) -> None:
        """Fetch the bodies that are not yet in `found` into it. `wanted` has the size of each.

        A body that is missing or has another size is left out: who wrote the item may not be trusted. `unlink` are
        bodies to remove in the same packet, if Redis can.
        """
        missing = [(key, size) for key, size in wanted.items() if key not in found]
        removed: list[tuple[bytes, ...]] = [] if not missing else self._groups(unlink)
        if not missing:
            self.unlink(unlink)
        first = 0
        while first < len(missing):
            last, size_asked = first, 0
            while last < len(missing) and last - first < _PIECE:
                size_asked += missing[last][1]
                if last > first and size_asked > PACKET_BYTES:
                    break
                last += 1
            self._fetch_piece([key for key, _ in missing[first:last]], wanted, found, removed)
            first, removed = last, []

    def _fetch_piece(
        self,
        keys: Sequence[bytes],
        wanted: Mapping[bytes, int],
        found: MutableMapping[bytes, bytes],
        unlink: Sequence[tuple[bytes, ...]] = (),
    ) -> None:
        groups = self._groups(keys)

        def receive(index: int, reply: Any) -> None:
            if index < len(unlink):
                return
            group = groups[index - len(unlink)]
            if isinstance(reply, ResponseError):
                raise reply
            bodies = check_command_reply(("MGET", *group), reply)
            for key, body in zip(group, bodies, strict=True):
                if body is not None and len(body) == wanted[key]:
                    found[key] = body

        commands: list[Command] = [("UNLINK", *group) for group in unlink]
        commands += [("MGET", *group) for group in groups]
        try:
            self._send(commands, receive)
        except InvalidRedisReply as error:
            # A body far larger than its item says. Alone, it does not keep the others from being fetched.
            if not isinstance(error.__cause__, ReplyTooLarge):
                raise
            if len(keys) > 1:
                for key in keys:
                    if key not in found:
                        self._fetch_piece([key], wanted, found)

    def unlink(self, keys: Sequence[bytes]) -> None:
        """Remove bodies. What Redis does not remove now is left to the sweep."""
        if not keys:
            return
        with contextlib.suppress(MutiTaskError):
            self._send([("UNLINK", *group) for group in self._groups(keys)], lambda _index, _reply: None)

    def _groups(
        self, keys: Sequence[bytes], bodies: Mapping[bytes, bytes | memoryview] | None = None
    ) -> list[tuple[bytes, ...]]:
        """Return the keys in groups that one command may name: many of them, or on a cluster each alone.

        With `bodies` to store, the bodies of a group have a limit too.
        """
        if not self._plain.one_node:
            return [(key,) for key in keys]
        groups: list[tuple[bytes, ...]] = []
        first = size = 0
        for place, key in enumerate(keys):
            body = len(bodies[key]) if bodies else 0
            if place > first and (place - first >= _PIECE or size + body > PACKET_BYTES):
                groups.append(tuple(keys[first:place]))
                first, size = place, 0
            size += body
        return [*groups, tuple(keys[first:])] if keys else groups

    def inline(
        self, channel: int, items: Sequence[bytes], *, most_bytes: int = wire.MAX_BYTES
    ) -> list[bytes]:
        """Return the items with their bodies inline. An item whose body is missing stays as it is.

        Bodies larger than `most_bytes` are not fetched.
        """
        return self.inline_at([self.place(channel, item) for item in items], items, {}, most_bytes=most_bytes)

    def inline_at(
        self,
        places: Sequence[Place | None],
        items: Sequence[bytes],
        found: MutableMapping[bytes, bytes],
        unlink: Sequence[bytes] = (),
        *,
        most_bytes: int = wire.MAX_BYTES,
    ) -> list[bytes]:
        """Do the same for items whose places are known. `found` and `unlink` as in `fetch`."""
        self.fetch(
            dict(place for place in places if place is not None and place.size <= most_bytes), found, unlink
        )
        return [
            item if place is None or (body := found.get(place.key)) is None else list_item.inline(item, body)
            for item, place in zip(items, places, strict=True)
        ]

    def missing(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of these keys that do not exist."""
        gone: set[bytes] = set()
        for first in range(0, len(keys), _PIECE):
            piece = keys[first : first + _PIECE]

            def receive(index: int, reply: Any, piece: Sequence[bytes] = piece) -> None:
                if isinstance(reply, ResponseError):
                    raise reply
                if not check_command_reply(("EXISTS",), reply):
                    gone.add(piece[index])

            self._send([("EXISTS", key) for key in piece], receive)
        return gone

    def pages(self, count: int) -> Iterator[list[bytes]]:
        """Yield the keys of all bodies of the namespace, in pages. A key may come twice."""
        try:
            yield from self._plain.scan(self._prefix + b"*", count)
        except (RedisError, OSError) as error:
            raise translate(error, self._address) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise translate(MalformedReply(in_one_line(error)), self._address) from None

    @property
    def _plain(self) -> PlainCommands:
        if self._made is None:
            self._made = PlainCommands(self._client)
        return self._made

    def _send(self, commands: Sequence[Command], receive: Any) -> None:
        if not commands:
            return
        try:
            self._plain.send(commands, receive)
        except NodeFailed as failed:
            scheme = "rediss" if self._address.startswith("rediss") else "redis"
            raise translate(failed.error, f"{scheme}://{failed.node[0]}:{failed.node[1]}") from failed.error
        except (RedisError, OSError) as error:
            raise translate(error, self._address) from error
        except (TypeError, ValueError, LookupError, AttributeError, MemoryError, RecursionError) as error:
            # redis-py raises these itself on a reply that no Redis sends.
            raise translate(MalformedReply(in_one_line(error)), self._address) from None


def all_inline(items: Sequence[bytes]) -> bool:
    """Return whether certainly no body is apart. An item with options may have one."""
    try:
        return set(map(_form, items)) <= _ONLY_INLINE
    except IndexError:
        return False
