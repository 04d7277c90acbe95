"""A connection that is kept from call to call: never another call's reply, no error for one that is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from tests.protocol.examples import SINGLE
from worker_agent.protocol.connection.cluster import ClusterClient
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.dedicated import DedicatedConnection, dedicate

ECHO = "return {KEYS[1], ARGV[1]}"
KEY = "{mt:t}:x"


@pytest.fixture
def kept(client: redis.Redis, redis_url: str) -> Any:
    """A kept connection to the emptied shared server."""
    return dedicate(connect(redis_url))


@pytest.fixture
def sha(client: redis.Redis) -> str:
    """A script that answers with its argument."""
    return str(client.script_load(ECHO))


def ask(kept: Any, sha: str, word: str) -> str:
    """The word that comes back."""
    answer: bytes = kept.execute_command("EVALSHA", sha, 1, KEY, word)[1]
    return answer.decode()


def others(client: redis.Redis) -> set[int]:
    """The ids of the server's connections but for the one that asks."""
    return {int(each["id"]) for each in client.client_list()} - {client.client_id()}


@pytest.mark.skipif(not SINGLE, reason="a cluster's and Sentinels' clients open others besides")
def test_scripts_share_one_connection(client: redis.Redis, kept: Any, sha: str) -> None:
    before = others(client)
    assert [ask(kept, sha, word) for word in "abc"] == list("abc")
    assert len(others(client) - before) == 1


def test_a_connection_that_was_closed_meanwhile_costs_no_error(
    client: redis.Redis, kept: Any, sha: str
) -> None:
    for word in "abc":
        assert ask(kept, sha, word) == word
        client.client_kill_filter(_type="normal", skipme=True)


def test_a_refused_call_leaves_the_connection_to_the_next(client: redis.Redis, kept: Any, sha: str) -> None:
    assert ask(kept, sha, "a") == "a"
    with pytest.raises(redis.exceptions.NoScriptError):
        kept.execute_command("EVALSHA", "0" * 40, 1, KEY, "a")
    assert ask(kept, sha, "b") == "b"


def test_a_call_that_was_broken_off_leaves_no_reply_to_the_next(
    kept: Any, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(kept, DedicatedConnection):
        pytest.skip("a cluster's client keeps none")
    assert ask(kept, sha, "a") == "a"

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(kept._connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(kept, sha, "b")
    assert ask(kept, sha, "c") == "c"


def test_threads_that_call_at_once_get_their_own_replies(kept: Any, sha: str) -> None:
    wrong: list[str] = []

    def call(name: str) -> None:
        for number in range(200):
            word = f"{name}-{number}"
            if ask(kept, sha, word) != word:
                wrong.append(word)

    threads = [threading.Thread(target=call, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_clusters_client_is_left_as_it_is() -> None:
    cluster = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    assert isinstance(cluster, ClusterClient)
    assert dedicate(cluster) is cluster
