"""The directory of an embedded Valkey: its password, users, configuration and log.

The directory is `<state dir>/<namespace>/`. It contains:

    server.json    the address and the password, for programs on this machine (0600)
    password       the password, kept across restarts (0600)
    valkey.conf    the configuration (0600)
    users.acl      the users: `mutitask` may do everything, a user without a password may only PING (0600)
    valkey.log     the log since the last start
    data/          the append-only file (0700)
    starting.lock  held by the process that starts Valkey, until Valkey answers
    data.lock      held by Valkey itself, so that two of them never write to one data directory

The password is never a command-line argument. A second lock outside the directory (see `locks.py`) prevents a second
Valkey from starting after somebody removed the directory of a running one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Literal

from mutitask_tui.embedded.ports import is_loopback
from mutitask_tui.server.files import Untrusted, private_file, refuse_other_owner, refuse_writable_by_others

Fsync = Literal["always", "everysec", "no"]
"""When a write is safe on the disk: before it is answered, once a second, or when the operating system decides."""

USERNAME = "mutitask"
_LEAST_CLIENTS = 10_000
"""Valkey's own default. It takes fewer if the file limit is lower."""
_MOST_CLIENTS = 200_000
"""Valkey needs about 30 bytes of memory for each client that it may have."""
_OWN_FILES = 32
"""The files that Valkey reserves for itself."""


def last_port(directory: Path) -> int | None:
    """Return the port of the last start, so that agents on other machines find the server at the same address."""
    with contextlib.suppress(OSError):
        text = (directory / "valkey.conf").read_text(errors="replace")
        found = re.search(r"^port (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else None
    return None


def ensure_password(directory: Path) -> str:
    """Return the password. The first call creates it."""
    with contextlib.suppress(FileNotFoundError):
        if saved := (directory / "password").read_text().strip():
            return saved
    password = secrets.token_urlsafe(24)
    write_private(directory / "password", password.encode() + b"\n")
    return password


def acl_file(password: str) -> bytes:
    """Return the file of users: `mutitask` may do everything, a user without a password may only PING."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default on nopass -@all +ping\nuser {USERNAME} on #{digest} ~* &* +@all\n".encode()


def configuration(directory: Path, port: int, addresses: list[str], fsync: Fsync, throwaway: bool) -> bytes:
    """Return the configuration file. It does not contain the password."""
    settings = {
        "port": str(port),
        "bind": " ".join(addresses),
        # Protected mode refuses other machines while `default` has no password. The ACL protects the data instead.
        "protected-mode": "yes" if all(map(is_loopback, addresses)) else "no",
        "dir": _quoted(directory / "data"),
        "aclfile": _quoted(directory / "users.acl"),
        "appendonly": "no" if throwaway else "yes",
        "appendfsync": fsync,
        "save": '""',
        "maxmemory-policy": "noeviction",
        "tcp-keepalive": "60",
        "maxclients": str(client_limit()),
        "tcp-backlog": "4096",  # Thousands of agents may reconnect at once.
    }
    return b"".join(f"{key} ".encode() + os.fsencode(value) + b"\n" for key, value in settings.items())


def client_limit() -> int:
    """Return how many clients Valkey may have: as many as the hard file limit allows. Valkey raises the soft one."""
    try:
        import resource
    except ImportError:  # Not on Windows, where no Valkey comes along.
        return _LEAST_CLIENTS
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return _MOST_CLIENTS
    return max(_LEAST_CLIENTS, min(_MOST_CLIENTS, most_files - _OWN_FILES))


def _quoted(path: Path) -> str:
    """Return a path with the quotes and escapes of Valkey's configuration format."""
    escaped = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def read_log(directory: Path) -> str:
    """Return the log since the last start, or '' if there is none."""
    try:
        return (directory / "valkey.log").read_text(errors="replace")
    except OSError:
        return ""


def check_ownership(directory: Path) -> None:
    """Check that every part of the directory belongs to this user. Raises `Untrusted` or `OSError`."""
    refuse_writable_by_others(directory.parent)
    for path in (directory, *directory.rglob("*")):
        # A Valkey that stops at this moment deletes its files.
        with contextlib.suppress(FileNotFoundError):
            refuse_other_owner(path)
    password = directory / "password"
    with contextlib.suppress(FileNotFoundError):
        if password.stat().st_mode & 0o077:
            raise Untrusted(
                f"{password} can be read or written by other users and is not trusted: "
                "delete it, and a new one is created"
            )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically by one that only its owner can read."""
    with private_file(path, "wb") as file:
        file.write(content)
