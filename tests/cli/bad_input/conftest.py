"""The namespaces that bad input is tried on."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.cli.bad_input.rows import SECRET, TWO_CHANNELS, Servers
from tests.cli.tools import Stack, write_job
from tests.support.redis_server import RealServer, free_port
from worker_agent.protocol.keys import Keys


@pytest.fixture(scope="module")
def servers(shared_server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The namespaces `held` (stopped, holds work), `live` (with a server and an agent), `old` (of another version) and
    `bare` (without a device)."""
    url, directory = shared_server.url, tmp_path_factory.mktemp("bad-input")
    (directory / "notes.txt").write_text("no Python")
    dead = free_port()
    evicting = RealServer().start()
    with shared_server.client() as client, evicting.client() as other:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "weak", "on", f">{SECRET}", "~*", "+@connection")
        other.config_set("maxmemory", "100mb")
        other.config_set("maxmemory-policy", "allkeys-lru")
        with Stack(url, "held", iter(range(10)), iter(range(6)), devices=3) as held:
            held.agent(0)
            held.done("start_all")
            held.until(lambda s: s.channels[0].done + s.channels[0].failed == 10)
        for name in ("old", "bare"):
            with Stack(url, name, iter(range(5))):
                pass
        client.hset(Keys("old").meta, "protocol", "0.9")
        values = {
            "url": url,
            "port": str(shared_server.port),
            "dead": str(dead),
            "dead_url": f"redis://:{SECRET}@127.0.0.1:{dead}/0",
            "wrong_url": f"redis://:{SECRET}@127.0.0.1:{shared_server.port}/0",
            "weak_url": f"redis://weak:{SECRET}@127.0.0.1:{shared_server.port}/0",
            "evicting": evicting.url,
            "secret": SECRET,
            "text": str(directory / "notes.txt"),
            "two": str(write_job(directory, TWO_CHANNELS, "two.py")),
        }
        try:
            with Stack(url, "live", iter(range(100)), devices=1, capacity=3) as live:
                live.agent(0)
                live.until(lambda s: s.channels[0].waiting == 3)
                yield Servers(values, (SECRET, shared_server.password, evicting.password), client)
        finally:
            client.execute_command("ACL", "DELUSER", "weak")
            evicting.remove()


@pytest.fixture(autouse=True)
def _restore_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a job file adds its directory to the import path. Remove it after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
