"""Create the users of docs/security.md on a real server, exactly as the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.programs import ROOT
from tests.support.redis_server import RealServer

PAGE = ROOT / "docs" / "security.md"
PASSWORD = "of-the-role"


def commands(name: str) -> dict[str, list[str]]:
    """Return the page's `ACL SETUSER` command of each role, for the namespace `name`."""
    found = {}
    for block in re.findall(r"```sh\n(valkey-cli ACL SETUSER .*?)```", PAGE.read_text(), re.DOTALL):
        text = block.replace("\\\n", " ").replace("NAME", name).replace("PASSWORD", PASSWORD)
        words = shlex.split(text)[1:]
        found[words[2].removeprefix("mt-")] = words
    return found


@dataclass(frozen=True)
class Roles:
    """The Redis URL of each role."""

    server: str
    agent: str
    dashboard: str


@contextmanager
def made(place: RealServer, name: str) -> Iterator[Roles]:
    """Create the page's users on a server, and delete them at the end."""
    with place.client() as admin:
        lines = commands(name)
        for words in lines.values():
            admin.execute_command(*words)
        admin.execute_command("ACL", "LOG", "RESET")
        urls = {
            role: f"redis://{words[2]}:{PASSWORD}@127.0.0.1:{place.port}/0" for role, words in lines.items()
        }
        try:
            yield Roles(**urls)
        finally:
            for words in lines.values():
                admin.execute_command("ACL", "DELUSER", words[2])


def denials(place: RealServer) -> list[str]:
    """Return every call that the server has refused because of missing rights.

    Optional calls do not count: MutiTask asks whether Redis evicts keys, and how many clients it has and allows.
    """
    with place.client(decode_responses=True) as admin:
        entries = admin.acl_log()
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']} ({entry['context']})"
        for entry in entries
        if not str(entry["object"]).lower().startswith(("info", "config"))
    ]
