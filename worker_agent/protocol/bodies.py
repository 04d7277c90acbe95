"""Large bodies, which are stored apart from their items, by plain commands under keys without the hash tag.

No script touches them: Lua would copy each body several times. On a cluster, their keys spread over all masters.
A body is stored before its item is pushed or settled, and removed behind the script that ended the task or drained the
result. What this leaves behind when a process dies in between is removed by the server's sweep.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from worker_agent.protocol import wire
from worker_agent.protocol.connection.guard import MalformedReply, ReplyTooLarge
from worker_agent.protocol.connection.plain import Command, NodeFailed, PlainCommands
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.errors import InvalidRedisReply, MutiTaskError
from worker_agent.protocol.reasons import in_one_line

APART_BYTES = 8 * 1024
"""An item from this size on is pushed without its body. `docs/performance.md` has the measurements."""
FETCH_BYTES = 16 * 1024 * 1024
"""About how many bytes of bodies are asked for in one packet."""
_PIECE = 1_000
"""The most commands in one packet."""
_form = itemgetter(wire.HEADER_BYTES - 1)
_ONLY_INLINE = frozenset(wire.INLINE)


def key_prefix(name: str) -> str:
    """Return how the key of every body of a namespace begins. It is no hash tag."""
    return f"mt:{name}:body:"


def body_key(name: str, channel: int, id_: str, ending: str) -> str:
    """Return the key of a body. `id_` is the task's id, `ending` tells several bodies of one task apart."""
    return f"{key_prefix(name)}{channel}:{id_}:{ending}"


def result_ending(actor: str) -> str:
    """Return the ending of a result's body: an actor settles a task at most once."""
    return f"r.{actor}"


def new_ending() -> str:
    """Return an ending that no other body has, for a task with a new body: its old body may still be read."""
    return secrets.token_hex(8)


def apart_form(size: int, ending: str) -> bytes:
    """Return what stands behind the header of an item in place of a body of that size."""
    return b"%b%08d%b" % (wire.APART, size, ending.encode("ascii"))


class Place(NamedTuple):
    """Where the body of an item is, and its size as the item says."""

    key: str
    size: int


class Bodies:
    """Stores, fetches and removes the bodies of one namespace.

    Raises MutiTask's errors; a fault of one node of a cluster names that node. Repeats nothing: every method can be
    called again.
    """

    def __init__(self, client: Any, name: str, address: str) -> None:
        self._client = client
        self._name = name
        self._address = address
        self._made: PlainCommands | None = None

    def place(self, channel: int, item: bytes) -> Place | None:
        """Return where an item's body is. None if the body is inline or the item is not valid."""
        if not wire.is_apart(item):
            return None
        try:
            parsed = wire.parse(item)
        except wire.Undecodable:
            return None
        apart = parsed.apart
        return (
            None
            if apart is None
            else Place(body_key(self._name, channel, parsed.id, apart.ending), apart.size)
        )

    def keys(self, channel: int, items: Iterable[bytes]) -> list[str]:
        """Return the keys of those of the items' bodies that are apart."""
        return [place.key for item in items if (place := self.place(channel, item)) is not None]

    def store(self, bodies: Mapping[str, bytes]) -> dict[str, MutiTaskError]:
        """Store bodies by their keys. Return those that Redis refused for lack of memory, with its refusal."""
        keys = list(bodies)
        refused: dict[str, MutiTaskError] = {}

        def receive(index: int, reply: Any) -> None:
            if isinstance(reply, OutOfMemoryError):
                refused[keys[index]] = translate(reply, self._address)
            elif isinstance(reply, ResponseError):
                raise reply
            elif reply not in (b"OK", "OK", True):
                raise MalformedReply("it answers SET with another reply")

        self._send([("SET", key, body) for key, body in bodies.items()], receive)
        return refused

    def fetch(
        self, wanted: Mapping[str, int], found: MutableMapping[str, bytes], unlink: Sequence[str] = ()
    ) -> None:
        """Fetch the bodies that are not yet in `found` into it. `wanted` has the size of each.

        A body that is missing or has another size is left out: who wrote the item may not be trusted. `unlink` are
        bodies to remove in the same packet, if Redis can.
        """
        if len(unlink) > _PIECE:
            self.unlink(unlink)
            unlink = ()
        commands: list[Command] = [("UNLINK", key) for key in unlink]
        asked: list[tuple[str, int] | None] = [None] * len(commands)
        size_asked = 0
        for key, size in wanted.items():
            if key in found:
                continue
            if commands and (size_asked + size > FETCH_BYTES or len(commands) >= _PIECE):
                self._fetch_piece(commands, asked, found)
                commands, asked, size_asked = [], [], 0
            commands.append(("GET", key))
            asked.append((key, size))
            size_asked += size
        self._fetch_piece(commands, asked, found)

    def _fetch_piece(
        self,
        commands: Sequence[Command],
        asked: Sequence[tuple[str, int] | None],
        found: MutableMapping[str, bytes],
    ) -> None:
        def receive(index: int, reply: Any) -> None:
            entry = asked[index]
            if entry is None:
                return
            if isinstance(reply, bytes):
                if len(reply) == entry[1]:
                    found[entry[0]] = reply
            elif isinstance(reply, ResponseError):
                if not str(reply).startswith("WRONGTYPE"):
                    raise reply
            elif reply is not None:
                raise MalformedReply("it answers GET with another reply")

        try:
            self._send(commands, receive)
        except InvalidRedisReply as error:
            # A body far larger than its item says. Alone, it does not keep the others from being fetched.
            if not isinstance(error.__cause__, ReplyTooLarge):
                raise
            if len(commands) > 1:
                for command, entry in zip(commands, asked, strict=True):
                    if entry is None or entry[0] not in found:
                        self._fetch_piece([command], [entry], found)

    def unlink(self, keys: Sequence[str]) -> None:
        """Remove bodies. What Redis does not remove now is left to the sweep."""
        try:
            for first in range(0, len(keys), _PIECE):
                self._send(
                    [("UNLINK", key) for key in keys[first : first + _PIECE]], lambda _index, _reply: None
                )
        except MutiTaskError:
            pass

    def inline(
        self,
        channel: int,
        items: Sequence[bytes],
        found: MutableMapping[str, bytes] | None = None,
        unlink: Sequence[str] = (),
        most_bytes: int = wire.MAX_BYTES,
    ) -> list[bytes]:
        """Return the items with their bodies inline. An item whose body is missing stays as it is.

        Bodies larger than `most_bytes` are not fetched. `found` and `unlink` as in `fetch`.
        """
        found = {} if found is None else found
        places = [self.place(channel, item) for item in items]
        wanted = dict(place for place in places if place is not None and place.size <= most_bytes)
        self.fetch(wanted, found, unlink)
        return [
            item if place is None or (body := found.get(place.key)) is None else wire.inline(item, body)
            for item, place in zip(items, places, strict=True)
        ]

    def count_existing(self, keys: Sequence[str]) -> int:
        """Return how many of these bodies exist."""
        existing = 0

        def receive(_index: int, reply: Any) -> None:
            nonlocal existing
            if isinstance(reply, ResponseError):
                raise reply
            existing += int(reply)

        for first in range(0, len(keys), _PIECE):
            self._send([("EXISTS", key) for key in keys[first : first + _PIECE]], receive)
        return existing

    def pages(self, count: int) -> Iterator[list[bytes]]:
        """Yield the keys of all bodies of the namespace, in pages. A key may come twice."""
        try:
            yield from self._plain.scan(key_prefix(self._name) + "*", count)
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
