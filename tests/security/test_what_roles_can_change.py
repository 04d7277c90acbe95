"""The keys that each role of docs/security.md can change: try every command of Redis on every key."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import redis

from mutitask_tui.server.commands.redis_backend import RedisBackend
from tests.cli.tools import Stack, no_agents_left
from tests.security.rights import PAGE, Roles, made
from tests.security.test_strangers import GARBAGE
from tests.support.programs import ROOT
from tests.support.redis_server import RealServer
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.keys import Keys

__all__ = ["no_agents_left"]

pytestmark = pytest.mark.protocol

NAME = "rights"
KEYS = Keys(NAME)
AT = KEYS.channel(0)
RIGHTS = runpy.run_path(str(ROOT / "docs" / "make_rights.py"))
ROLES = ("server", "agent", "dashboard")

WITH_ODD_ARGUMENTS: dict[str, list[str]] = {
    "XREADGROUP": ["GROUP", "g", "c", "STREAMS", "KEY", "0"],
    "MIGRATE": ["host", "1", "KEY", "0", "1"],
    "SORT": ["KEY", "STORE", "KEY"],
    "GEORADIUS": ["KEY", "1", "1", "1", "m", "STORE", "KEY"],
    "GEORADIUSBYMEMBER": ["KEY", "m", "1", "m", "STORE", "KEY"],
}


@pytest.fixture
def roles(shared_server: RealServer, client: redis.Redis) -> Iterator[Roles]:
    with made(shared_server, NAME) as users:
        yield users


def test_the_page_is_made_from_the_data() -> None:
    assert RIGHTS["written"](PAGE.read_text()) == PAGE.read_text(), "run `python docs/make_rights.py`"


def test_the_table_names_every_key(client: redis.Redis) -> None:
    def plain(owner: Any, attribute: str) -> str:
        found = getattr(owner, attribute)
        return str(
            found("x")
            if attribute in ("claims", "actor", "detect_answers")
            else found(0)
            if callable(found)
            else found
        )

    described = [RIGHTS["every"](f"{KEYS.prefix}:{key}") for key in RIGHTS["KEYS"]]
    for owner in (KEYS, AT):
        for attribute in dir(type(owner)):
            if attribute.startswith("_") or attribute in ("prefix", "name", "channel"):
                continue
            key = (
                plain(owner, attribute)
                .replace(":actor:x", ":actor:a-*")
                .replace("wish:", "wish:devices")[:60]
            )
            key = key if "wish" not in key else KEYS.desired_devices
            assert any(RIGHTS["matches"](pattern, key) for pattern in described), key


def calls_of(client: redis.Redis, key: str) -> dict[str, list[str]]:
    """Return a call of each writing command of the server that names only this key."""
    names = client.execute_command("ACL", "CAT", "write")
    calls: dict[str, list[str]] = {}
    for name in sorted(text(name).upper() for name in names):
        if "|" not in name:
            calls[name] = _call(client, name, key)
    return calls


def _call(client: redis.Redis, name: str, key: str) -> list[str]:
    if name in WITH_ODD_ARGUMENTS:
        return [name, *(key if word == "KEY" else word for word in WITH_ODD_ARGUMENTS[name])]
    arity, first = _shape(client, name)
    words = max(abs(arity) - 1, 0)
    candidates = [[key] * words, [key] * (words + 1)]
    candidates += [[*[key] * place, "1", *[key] * (extra - place)] for extra in (words - 1, words, words + 1)
                   for place in range(max(extra, 0))]  # fmt: skip
    for words_ in candidates:
        if len(words_) < words:
            continue
        try:
            found = client.execute_command("COMMAND GETKEYS", name, *words_)
        except redis.ResponseError:
            continue
        if found and {text(k) for k in found} == {key}:
            return [name, *words_]
    assert first == 0, f"no call of {name} was found that names a key"
    return [name, *["x"] * words]


def _shape(client: redis.Redis, name: str) -> tuple[int, int]:
    """Return the command's arity, and the position of its first key (0 for a command without keys)."""
    raw = _commands(client)[name]
    return raw[0], raw[1]


@cache
def _commands(client: redis.Redis) -> dict[str, tuple[int, int]]:
    found = {}
    for name, about in client.command().items():
        takes_keys = about["first_key_pos"] != 0 or "movablekeys" in {text(flag) for flag in about["flags"]}
        found[text(name).upper()] = (about["arity"], 1 if takes_keys else 0)
    return found


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def may(client: redis.Redis, role: str, call: list[str]) -> bool:
    return text(client.execute_command("ACL", "DRYRUN", f"mt-{role}", *call)) == "OK"


def example(key: str) -> str:
    """Return a key of this kind."""
    return named(key).replace("*", "0")


def named(key: str) -> str:
    """Return a key of the table with this namespace's name. Bodies have no hash tag."""
    return key.replace("NAME", NAME) if key == RIGHTS["BODIES"] else f"{KEYS.prefix}:{key}"


@pytest.mark.parametrize("key", RIGHTS["KEYS"])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_changes_a_key_by_the_commands_of_the_table_and_no_others(
    client: redis.Redis, roles: Roles, role: str, key: str
) -> None:
    calls = calls_of(client, example(key))
    assert len(calls) > 90 and {"LTRIM", "FLUSHALL", "XADD", "RENAME", "HSET", "ZUNIONSTORE"} <= set(calls)
    allowed = {name.lower() for name, call in calls.items() if may(client, role, call)}
    assert allowed == set(RIGHTS["changes"](role, key))


DESTROYS = [
    ("LTRIM", AT.results, "1", "0"), ("PEXPIRE", AT.failed, "1"), ("PEXPIRE", AT.counters, "1"),
    ("HSET", AT.counters, "done", "-5"),
    ("XADD", KEYS.events, "MAXLEN", "0", "*", "a", "b"),
    ("LTRIM", KEYS.events, "1", "0"), ("LTRIM", AT.history, "1", "0"), ("LTRIM", AT.waiting, "1", "0"),
    ("DEL", AT.waiting), ("HDEL", AT.failed, "x"), ("HSET", AT.failed, "x", "y"), ("ZREM", AT.failed_at, "x"),
    ("HDEL", AT.reasons, "x"), ("ZADD", KEYS.server_lease, "1", "x"), ("ZREM", KEYS.server_lease, "x"),
    ("PEXPIRE", KEYS.meta, "1"), ("PEXPIRE", KEYS.leases, "1"), ("PEXPIRE", AT.agent_counters, "1"),
    ("HSET", KEYS.actor("s-x"), "dead", "1"), ("PEXPIRE", KEYS.actor("s-x"), "1"), ("RENAME", AT.results, AT.waiting),
    ("LMOVE", AT.results, AT.waiting, "LEFT", "LEFT"), ("SORT", AT.waiting, "STORE", AT.results),
    ("COPY", AT.waiting, AT.results, "REPLACE"), ("RESTORE", AT.results, "0", "x", "REPLACE"),
]  # fmt: skip


@pytest.mark.parametrize("call", DESTROYS, ids=lambda call: "-".join(call[:2]))
def test_destructive_calls_are_refused_directly_and_in_a_script(
    client: redis.Redis, roles: Roles, call: tuple[str, ...]
) -> None:
    for key in (AT.results, AT.waiting):
        client.rpush(key, "kept")
    before = {key: client.dump(key) for key in client.keys("*")}
    keys = [word for word in call[1:] if word.startswith("{mt:")]
    within = f"return redis.call({', '.join(repr(word) for word in call)})"
    for user in (roles.agent, roles.dashboard):
        with redis.Redis.from_url(user, protocol=3) as stranger:
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*call)
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't"):
                stranger.execute_command("EVAL", within, len(keys), *keys)
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_a_server_continues_with_any_data_of_an_agents_user(client: redis.Redis, roles: Roles) -> None:
    """Write garbage into each key that the role can change, with each command that it may use."""
    with Stack(roles.server, NAME, iter(range(20)), devices=2, autostart=True) as stack:
        stack.agent(0, task_function=lambda task: task)
        stack.until(lambda s: s.channels[0].done == 20)
        own = stack.agents[0][0].state.session
        assert own is not None
        with redis.Redis.from_url(roles.agent, protocol=3) as stranger:
            for garbage in (*GARBAGE, b"1:open", b"a-stranger"):
                for key in RIGHTS["KEYS"]:
                    at = named(key).replace("actor:a-*", "actor:a-other").replace("*", "0")
                    for command in RIGHTS["changes"]("agent", key):
                        for words in arguments(command, garbage):
                            try:
                                stranger.execute_command(command, at, *words)
                            except redis.ResponseError as error:
                                assert "permission" not in str(error), (command, at, error)
        client.delete(AT.agents)
        link = RedisBackend(roles.server, NAME)
        assert link.snapshot().channels[0].done >= 0
        number = 900
        client.rpush(AT.waiting, list_item.header(stack.core.run.id, number) + wire.pack("after"))
        seen = threading.Event()
        stack.until(lambda s: s.channels[0].waiting == 0 or seen.is_set())
        assert not stack.core.ended.is_set(), stack.core.failure
        assert stack.done("add_device")


def arguments(command: str, garbage: bytes) -> list[list[Any]]:
    """Return the arguments after the key for calls of this command."""
    return {
        "rpush": [[garbage]], "lpush": [[garbage]], "lpop": [[]], "blpop": [[0.01]], "ltrim": [[1, 0]],
        "hset": [[garbage, garbage], ["0", garbage], ["1:open", garbage], ["1", garbage], ["swept_ms", garbage],
                 ["devices", garbage], ["dead", garbage], ["device", garbage]],
        "hsetnx": [[garbage, garbage]], "hdel": [[garbage], ["done"], ["foreign"]],
        "hincrby": [["done", -50], ["errors", -9]],
        "zadd": [[5, garbage], ["inf", garbage], ["-inf", b"a-" + garbage]], "zrem": [[garbage]], "pexpire": [[1]],
        "mset": [[garbage]], "unlink": [[]],
    }[command]  # fmt: skip
