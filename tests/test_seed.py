"""The two programs of MutiTask's first version, unchanged, run as two processes without a Redis. Keys drive them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mutitask_tui.embedded.valkey import default_redis_listens
from tests.cli.tools import mutitask, no_agents_left
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.address import load_server_file

__all__ = ["no_agents_left"]

SERVER = """\
from Mutitask.server import Server          # also: from mutitask_tui import Server

def task():
    for i in range(1, 100):
        yield f'https://www.kuaidaili.com/free/inha/{i}/'

manager = Server(WorksNumb=5, TasksChannelMax=20, InstructionChannelNumb=1)
tasks = [task()]
manager.start(tasks)
"""

CLIENT = """\
from Mutitask.client import Client          # also: from worker_agent import Client
from requests import get

def task_function(task):
    response = get(task)
    return response.status_code if response.status_code == 200 else None

def save_function(result):
    print(result)

a = Client(device=0)
a.initial_task_function(task_func=task_function)
a.initial_save_function(save_func=save_function)
a.start(channel=0)
"""

REQUESTS = """\
'''Replaces the library of that name: pages whose number ends in 7 do not exist.'''
class Response:
    def __init__(self, status_code):
        self.status_code = status_code

def get(url):
    return Response(404 if url.endswith('7/') else 200)
"""

Terminal = pexpect.spawn
PtyRun = Callable[..., "Terminal[str]"]


def status() -> Any:
    ran = mutitask("status", "--json")
    return ran.json if ran.status == 0 else None


def until(holds: Callable[[Any], object], *terminals: Terminal[str]) -> Any:
    """Wait for a status that meets the condition, and read the terminals so that no program blocks."""

    def matching_status() -> Any:
        for terminal in terminals:
            with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
                terminal.expect("this text never appears", timeout=0.02)
        found = status()
        return found if found and holds(found) else None

    return wait_until(matching_status, 30, what=f"a status that holds; last: {status()}")


@pytest.mark.parametrize(
    ("server_import", "client_import"),
    [
        ("from Mutitask.server import Server", "from Mutitask.client import Client"),
        ("from mutitask_tui import Server", "from worker_agent import Client"),
    ],
    ids=["first version", "package names"],
)
def test_the_two_programs_of_the_first_version(
    server_import: str, client_import: str, state_dir: Path, pty_run: PtyRun, tmp_path: Path
) -> None:
    if default_redis_listens():
        pytest.skip("another Redis listens on localhost:6379")
    (tmp_path / "server.py").write_text(SERVER.replace("from Mutitask.server import Server", server_import))
    (tmp_path / "client.py").write_text(CLIENT.replace("from Mutitask.client import Client", client_import))
    (tmp_path / "requests.py").write_text(REQUESTS)

    client = pty_run(["python", "client.py"], cwd=tmp_path)
    client.expect("waiting for a server")
    server = pty_run(["python", "server.py"], cwd=tmp_path)
    server.expect("Device4")
    client.expect("Device0 serves TaskChannel0 of 'default'")
    assert load_server_file(state_dir / "default" / "server.json")

    started = until(lambda s: s["devices"][0]["pid"] and s["channels"][0]["waiting"] == 20, server)
    assert [device["state"] for device in started["devices"]] == ["paused"] + ["offline"] * 4
    assert started["channels"][0]["capacity"] == 20 and started["channels"][0]["done"] == 0
    assert started["server"]["pid"] == server.pid

    server.send("S")
    client.expect("started: taking tasks")
    client.expect(r"\b200\b")
    ended = until(
        lambda s: (s["channels"][0]["done"], s["channels"][0]["failed"]) == (89, 10), server, client
    )
    assert ended["channels"][0]["balanced"] and ended["channels"][0]["exhausted"]
    assert (
        ended["channels"][0]["allotted"] == 99 and ended["channels"][0]["results"] == 0
    )  # The save function printed them.
    # Each failed task ran four times. A device reports its counters once a second.
    reported = until(lambda s: s["devices"][0]["failed"] == 40, server, client)
    assert reported["devices"][0]["state"] == "running" and reported["devices"][0]["done"] == 89

    server.send("F")
    server.expect("/free/inha/7/")
    server.expect("None")
    server.send("q")
    server.expect("Leave")
    server.send("\t\t\r")

    client.expect(pexpect.EOF)
    client.close()
    server.expect(pexpect.EOF)
    server.close()
    assert (client.exitstatus, server.exitstatus) == (0, 0), (client.before, server.before)
    assert "Traceback" not in client.before + server.before
    assert not (state_dir / "default" / "server.json").exists()  # `exit` also ended the embedded Valkey.
