"""Record script calls, capture one without sending it, send it again; and read a whole database as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis

from worker_agent.protocol.connection.plain import PlainCommands
from worker_agent.protocol.scripts import script

LUA = files("worker_agent.protocol") / "lua"
SCRIPTS = sorted(
    path.name.removesuffix(".lua")
    for path in LUA.iterdir()
    if path.name.endswith(".lua") and path.name != "prelude.lua"
)
"""The name of each transition."""


@cache
def _name_of(sha: str) -> str:
    return next(name for name in SCRIPTS if script(name).sha == sha)


@dataclass(frozen=True)
class RawCall:
    """One script call as it is sent."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Any, ...]

    def send(self, client: Any) -> Any:
        """Send this call, perhaps again. Return the raw reply."""
        return script(self.name)(client, self.keys, self.args)


class NotSent(Exception):
    """The call was not sent."""

    def __init__(self, call: RawCall) -> None:
        super().__init__(call.name)
        self.call = call


class Tap:
    """A client that records its script calls, and can capture one instead of sending it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.log: list[RawCall] = []
        self._capturing = False

    @property
    def plain(self) -> redis.Redis:
        return self.client

    def execute_command(self, *command: Any) -> Any:
        if command[0] == "EVALSHA":
            count = int(command[2])
            keys, args = command[3 : 3 + count], command[3 + count :]
            call = RawCall(_name_of(command[1]), keys, args)
            if self._capturing:
                raise NotSent(call)
            self.log.append(call)
        return self.client.execute_command(*command)

    def capture(self, send: Callable[[], Any]) -> RawCall:
        """Return the script call that `send` would make. Nothing is sent."""
        self._capturing = True
        try:
            send()
        except NotSent as captured:
            return captured.call
        finally:
            self._capturing = False
        raise AssertionError("no script was called")


READ: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    b"stream": lambda pipe, key: pipe.xrange(key),
    b"string": lambda pipe, key: pipe.get(key),
}


def dump(client: redis.Redis, but: Iterable[str] = ()) -> dict[bytes, tuple[bytes, Any]]:
    """Return the whole database: key -> (type, content). For the keys in `but`, only the type and the members."""
    only_members = {key.encode() for key in but}
    found: dict[bytes, tuple[bytes, Any]] = {}
    everything = client.keys("*")
    # The client stays with the node of the namespace. Bodies may be on any node.
    bodies = [key for key in everything if key.startswith(b"mt:")]
    PlainCommands(client).send(
        [("GET", key) for key in bodies],
        lambda index, reply: found.update({bodies[index]: (b"string", reply)}),
    )
    keys = [key for key in everything if not key.startswith(b"mt:")]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = pipe.execute()
    with client.pipeline(transaction=False) as pipe:
        for key, kind in zip(keys, kinds, strict=True):
            READ[kind](pipe, key)
        contents = pipe.execute()
    for key, kind, content in zip(keys, kinds, contents, strict=True):
        if kind == b"zset":
            content = dict(content)
        found[key] = (kind, sorted(content) if key in only_members else content)
    return found
