"""What lies in the directory of an embedded Valkey: password, users, configuration, log, locks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mutitask_tui.embedded.ports import is_loopback
from mutitask_tui.server.files import Untrusted, make_private, private_file, refuse_open, refuse_strangers
from worker_agent.protocol.pristine import time

Fsync = Literal["always", "everysec", "no"]

USERNAME = "mutitask"
_POLL_SECONDS = 0.02


def last_port(home: Path) -> int | None:
    """The port of the last start, so that agents elsewhere find it where they left it."""
    with contextlib.suppress(OSError):
        found = re.search(r"^port (\d+)$", (home / "valkey.conf").read_text(errors="replace"), re.MULTILINE)
        return int(found[1]) if found else None
    return None


def kept_password(home: Path) -> str:
    """The password, made at the first start."""
    with contextlib.suppress(FileNotFoundError):
        if kept := (home / "password").read_text().strip():
            return kept
    password = secrets.token_urlsafe(24)
    write_private(home / "password", password.encode() + b"\n")
    return password


def acl_file(password: str) -> bytes:
    """The users: ours may all, whoever gives no password may PING."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default on nopass -@all +ping\nuser {USERNAME} on #{digest} ~* &* +@all\n".encode()


def configuration(home: Path, port: int, addresses: list[str], fsync: Fsync, throwaway: bool) -> bytes:
    """The configuration file; no password stands in it."""
    settings = {
        "port": str(port),
        "bind": " ".join(addresses),
        # Protected mode turns other machines away while `default` has no password; the ACL protects us.
        "protected-mode": "yes" if all(map(is_loopback, addresses)) else "no",
        "dir": quoted(home / "data"),
        "aclfile": quoted(home / "users.acl"),
        "appendonly": "no" if throwaway else "yes",
        "appendfsync": fsync,
        "save": '""',
        "maxmemory-policy": "noeviction",
        "tcp-keepalive": "60",
    }
    return b"".join(f"{key} ".encode() + os.fsencode(value) + b"\n" for key, value in settings.items())


def quoted(path: Path) -> str:
    """A path as the configuration wants it."""
    escaped = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def log_text(home: Path) -> str:
    """What it said since it was last started."""
    try:
        return (home / "valkey.log").read_text(errors="replace")
    except OSError:
        return ""


def trust(home: Path) -> None:
    """See that every part of the directory is this user's. Raises `Untrusted` or `OSError`."""
    refuse_open(home.parent)
    for path in (home, *home.rglob("*")):
        # What ends meanwhile takes its own away.
        with contextlib.suppress(FileNotFoundError):
            refuse_strangers(path)
    password = home / "password"
    with contextlib.suppress(FileNotFoundError):
        if password.stat().st_mode & 0o077:
            raise Untrusted(
                f"{password} can be read or written by other users and is not trusted: delete it, and a new one is made"
            )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once by one that only its owner can read."""
    with private_file(path, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[int | None]:
    """Hold a file's lock; gives its descriptor, or None if another holds it for longer than `seconds`."""
    import fcntl  # Not on Windows, where no Valkey comes along either.

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    yield None
                    return
                time.sleep(_POLL_SECONDS)
            else:
                yield handle
                return
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked_beside(home: Path, seconds: float) -> Iterator[tuple[int | None, str]]:
    """Hold a lock on this directory's name that outlives the directory: its descriptor, and who holds it otherwise.

    (None, '') where there is no place for it: then the lock within the directory is the only one.
    """
    place = _beside(home)
    with contextlib.ExitStack() as held:
        handle, holder = None, ""
        with contextlib.suppress(OSError, Untrusted):
            make_private(place.parent)
            handle = held.enter_context(locked(place, seconds))
            if handle is None:
                holder = place.read_text(errors="replace").strip() or "?"
        yield handle, holder


def is_locked(path: Path) -> bool:
    """Whether somebody holds a file's lock."""
    try:
        with locked(path, 0.0) as mine:
            return mine is None
    except OSError:
        return False


def note_beside(home: Path, pid: int) -> None:
    """Write down who holds the lock beside the directory."""
    with contextlib.suppress(OSError):
        _beside(home).write_text(str(pid))


def forget_beside(home: Path) -> None:
    """Take the lock beside the directory away, unless somebody holds it."""
    with contextlib.suppress(OSError), locked(_beside(home), 0.0) as mine:
        if mine is not None:
            _beside(home).unlink()


def _beside(home: Path) -> Path:
    name = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"mutitask-{os.geteuid()}" / f"{name}.lock"
