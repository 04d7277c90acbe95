"""Call scripts and commands: with retries, with a number if the script needs one, and with MutiTask's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from worker_agent.protocol import wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.connection.guard import MalformedReply
from worker_agent.protocol.connection.redis_errors import foreign_key_message, translate
from worker_agent.protocol.connection.retry import NO_RETRIES, RetryPolicy
from worker_agent.protocol.errors import (
    CountMoved,
    LeaseLost,
    NamespaceGone,
    RedisRefused,
    Superseded,
    WritesLost,
)
from worker_agent.protocol.keys import MAX_CHANNELS, Keys
from worker_agent.protocol.reasons import in_one_line
from worker_agent.protocol.replies import (
    check_command_reply,
    check_script_reply,
    is_whole,
    parse_stored_reply,
    to_dict,
)
from worker_agent.protocol.scripts import Argument, script

MAX_TASKS_PER_CALL = 1000
"""How many tasks one call of a script moves at most."""


class Calls:
    """The calls of one actor to one namespace.

    `address` names Redis in messages. `retry` repeats calls while Redis is away.
    """

    def __init__(
        self, client: Any, name: str, actor: Actor, *, address: str, retry: RetryPolicy = NO_RETRIES
    ) -> None:
        self.client = client
        self.keys = Keys(name)
        self.actor = actor
        self.address = address
        self.retry = retry

    def query(self, *command: Argument) -> Any:
        """Send a plain command and return its reply."""
        return self.retry(
            lambda: self._try(lambda: check_command_reply(command, self.client.execute_command(*command)))
        )

    def number(self, key: str, field: str) -> int:
        """Return a number in a hash, 0 if there is none. Raises `RedisRefused` if the value is not a number."""
        value = self.query("HGET", key, field) or b"0"
        if not is_whole(value):
            raise RedisRefused(foreign_key_message(self.address))
        return int(value)

    def _call(self, name: str, keys: Sequence[str | bytes], *args: Argument) -> list[Any]:
        transition = script(name)
        reply: list[Any] = self.retry(
            lambda: self._try(lambda: check_script_reply(name, transition(self.client, keys, args)))
        )
        return reply

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (RedisError, OSError) as error:
            raise translate(error, self.address) from error
        except (TypeError, ValueError, LookupError, AttributeError, MemoryError, RecursionError) as error:
            # redis-py raises these itself on a reply that no Redis sends.
            raise translate(MalformedReply(in_one_line(error)), self.address) from None

    def _numbered(
        self,
        name: str,
        keys: Sequence[str | bytes],
        before: Sequence[Argument],
        *after: Argument,
        number: int | None = None,
    ) -> list[Any]:
        """Make a numbered call with the arguments `before`, the number, `after`. Every retry sends the same number.

        `number` repeats a call that was already sent under this number and has no answer yet.
        """
        with self.actor.call_lock:
            if number is None:
                number = self.actor.next_number()
            reply = self._call(name, keys, *before, number, *after)
        status = reply[0]
        if status in (b"lost", b"stale"):
            raise LeaseLost(f"actor {self.actor.id} was fenced")
        if status == b"gap":
            raise WritesLost(f"Redis at {self.address} lost its last writes")
        if status == b"gone":
            raise NamespaceGone(self.keys.name)
        if status == b"superseded":
            raise Superseded(successor_text(reply[1]))
        if status == b"moved":
            raise CountMoved(int(reply[1]))
        if status == b"again":
            return self._try(lambda: parse_stored_reply(name, reply[1]))  # type: ignore[no-any-return]
        return reply

    def channels(self) -> int:
        """Return the number of channels of the namespace; 0 if no server has opened it."""
        count = self.number(self.keys.meta, "channels")
        if count > MAX_CHANNELS:
            raise RedisRefused(foreign_key_message(self.address))
        return count

    def now_ms(self) -> int:
        """Return the time of Redis's clock in ms since the epoch."""
        seconds, micros = self.query("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def actor_on(self, device: int) -> str:
        """Return the actor on a device, or ''."""
        return (self.query("HGET", self.keys.agents, device) or b"").decode("utf-8", "replace")

    def actor_record(self, actor: str) -> dict[bytes, bytes]:
        """Return an actor's record; empty if it has expired."""
        return to_dict(self.query("HGETALL", self.keys.actor(actor)))


def successor_text(record: bytes) -> str:
    """Return a sentence that names the successor in the reply `superseded`."""
    if not record:
        return "no server holds this namespace any more"
    try:
        fields = wire.unpack(record)
        return f"a server on {fields['host']} (pid {fields['pid']}) holds this namespace now"
    except (wire.Undecodable, LookupError, TypeError, ValueError):
        return "another server holds this namespace now"
