"""A dedicated connection never returns another call's reply, and a closed connection causes no error."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from tests.protocol.examples import SINGLE
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import close_idle_connections, dedicate

ECHO = "return {KEYS[1], ARGV[1]}"
KEY = "{mt:t}:x"


@pytest.fixture
def dedicated(client: redis.Redis, redis_url: str) -> Any:
    """Return a dedicated connection to the emptied shared server."""
    return dedicate(connect(redis_url))


@pytest.fixture
def sha(client: redis.Redis) -> str:
    """Return the SHA of a script that returns its argument."""
    return str(client.script_load(ECHO))


def echo(dedicated: Any, sha: str, word: str) -> str:
    """Call the script with the word. Return the word in the reply."""
    answer: bytes = dedicated.execute_command("EVALSHA", sha, 1, KEY, word)[1]
    return answer.decode()


def other_connections(client: redis.Redis) -> set[int]:
    """Return the ids of the server's connections except the one of this call."""
    return {int(each["id"]) for each in client.client_list()} - {client.client_id()}


@pytest.mark.skipif(not SINGLE, reason="clients of a cluster and of Sentinels open more connections")
def test_scripts_share_one_connection(client: redis.Redis, dedicated: Any, sha: str) -> None:
    before = other_connections(client)
    assert [echo(dedicated, sha, word) for word in "abc"] == list("abc")
    assert len(other_connections(client) - before) == 1


def test_a_connection_that_was_closed_meanwhile_costs_no_error(
    client: redis.Redis, dedicated: Any, sha: str
) -> None:
    for word in "abc":
        assert echo(dedicated, sha, word) == word
        client.client_kill_filter(_type="normal", skipme=True)


def test_a_refused_call_leaves_the_connection_to_the_next(
    client: redis.Redis, dedicated: Any, sha: str
) -> None:
    assert echo(dedicated, sha, "a") == "a"
    with pytest.raises(redis.exceptions.NoScriptError):
        dedicated.execute_command("EVALSHA", "0" * 40, 1, KEY, "a")
    assert echo(dedicated, sha, "b") == "b"


def test_an_interrupted_call_leaves_no_reply_to_the_next(
    dedicated: Any, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in "aa":  # On a cluster, the first call finds the node.
        assert echo(dedicated, sha, word) == word

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(dedicated._connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        echo(dedicated, sha, "b")
    assert echo(dedicated, sha, "c") == "c"


def test_threads_that_call_at_once_get_their_own_replies(dedicated: Any, sha: str) -> None:
    wrong: list[str] = []

    def call(name: str) -> None:
        for number in range(200):
            word = f"{name}-{number}"
            if echo(dedicated, sha, word) != word:
                wrong.append(word)

    threads = [threading.Thread(target=call, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_call_that_takes_long_does_not_hold_up_another(client: redis.Redis, dedicated: Any) -> None:
    client.rpush(KEY, "a")
    with dedicated._in_use:
        assert dedicated.execute_command("LLEN", KEY) == 1


@pytest.mark.skipif(not SINGLE, reason="clients of a cluster and of Sentinels open more connections")
def test_the_connections_that_no_call_uses_can_be_closed(client: redis.Redis, dedicated: Any) -> None:
    before = other_connections(client)
    with dedicated._in_use:
        dedicated.execute_command("LLEN", KEY)
    dedicated.execute_command("LLEN", KEY)
    close_idle_connections(dedicated)
    assert len(other_connections(client) - before) == 1
    assert dedicated.execute_command("LLEN", KEY) == 0
