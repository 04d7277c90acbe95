"""Find the address of Redis: the one that a person gave, else the embedded Valkey's of this machine, else the default.

These functions work on strings and files. They do not connect.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode

from worker_agent.protocol.errors import JobError, MutiTaskError
from worker_agent.protocol.identity import Identity, this_process
from worker_agent.protocol.unpatched import json

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379
DEFAULT_DB = 0
SENTINEL_PORT = 26379
DEFAULT_URL = f"redis://{DEFAULT_HOST}:{DEFAULT_PORT}/{DEFAULT_DB}"

REDIS_URL_VARIABLE = "MUTITASK_REDIS_URL"
PASSWORD_VARIABLE = "MUTITASK_REDIS_PASSWORD"  # noqa: S105 (its name)
"""The environment variable with the password for a URL that has none. The embedded Valkey has its own password."""
STATE_DIR_VARIABLE = "MUTITASK_STATE_DIR"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOSTS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.%]+\])(?::\d+)?(?:,(?:[\w.-]+|\[[0-9a-fA-F:.%]+\])(?::\d+)?)*")
_MULTI_HOST = re.compile(r"(rediss?)\+(sentinel|cluster)://([^/?#]*@)?([^/?#@]*)(?:/([^?#]*))?(?:\?([^#]*))?")
_HIDDEN = "***"
_MAX_FILE_BYTES = 65_536
"""How much of a server file or password file is read. A server file has a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class ServerFile:
    """The address of a namespace's embedded Valkey, which other programs on the same machine read."""

    url: str = field(repr=False)
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    process: Identity


def check_name(name: str) -> str:
    """Return `name`. Raises `JobError` if it is not valid as the name of a namespace."""
    if not _NAME.fullmatch(name) or name.strip(".") == "":
        raise JobError(
            f"{name!r} cannot name a namespace: use 1 to 64 letters, digits, dots, dashes and underscores."
        )
    return name


def state_dir() -> Path:
    """Return the directory for files that must outlive a process."""
    if own := os.environ.get(STATE_DIR_VARIABLE):
        return Path(own).absolute()
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "mutitask"


def server_file(name: str) -> Path:
    """Return the path of the file in which the embedded Valkey of namespace `name` writes its address."""
    return state_dir() / check_name(name) / "server.json"


def read_server_file(name: str) -> str | None:
    """Return the URL of this machine's embedded Valkey for `name`, with user and password, or None."""
    record = load_server_file(server_file(name))
    if record is None:
        return None
    here = this_process()
    # In a home directory that machines share, the file may belong to another machine. Its localhost is not this one.
    if record.process.host != here.host and record.process.boot != here.boot:
        return None
    return record.url


def load_server_file(path: Path) -> ServerFile | None:
    """Read a server file. Returns None if it does not exist.

    Raises `MutiTaskError` for a file that other users could have written: its author would get the tasks.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix":
                _refuse_files_of_others(path, os.fstat(file.fileno()))
            text = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MutiTaskError(f"Cannot read {path} ({error.strerror}): fix that, or pass --redis.") from None
    try:
        found = json.loads(text)
        record = ServerFile(
            url=found["url"],
            host=found["host"],
            port=found["port"],
            username=found["username"],
            password=found["password"],
            process=Identity(
                host=found.get("machine", ""),
                pid=found["pid"],
                boot=found.get("boot", ""),
                start=found.get("start", 0),
            ),
        )
        _check_types(record)
        return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MutiTaskError(f"{path} does not hold a server's address: delete it, or pass --redis.") from None


def _check_types(record: ServerFile) -> None:
    """Raise `TypeError` if a field has a value that no server writes."""
    process = record.process
    texts = (record.url, record.host, record.username, record.password, process.host, process.boot)
    numbers = (record.port, process.pid, process.start)
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError
    if not record.url.startswith("redis://") or not 0 < record.port < 65536:
        raise TypeError


def dump_server_file(record: ServerFile) -> bytes:
    """Return the content of a server file."""
    content = {
        "url": record.url,
        "host": record.host,
        "port": record.port,
        "username": record.username,
        "password": record.password,
        "pid": record.process.pid,
        "machine": record.process.host,
        "boot": record.process.boot,
        "start": record.process.start,
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def resolve(
    redis_url: str | None,
    name: str,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    db: int = DEFAULT_DB,
    password: str | None = None,
) -> tuple[str, bool]:
    """Return the URL of Redis, and whether it was specified.

    It is specified by `redis_url`, by the environment, by an address that is not the default, or by the file of the
    embedded Valkey for namespace `name`. Otherwise the URL is `redis://localhost:6379/0`. A caller that waits for a
    server resolves again before each try, because the file may appear meanwhile. `password` overrides the password in
    a URL, which overrides `MUTITASK_REDIS_PASSWORD`.
    """
    if url := redis_url or os.environ.get(REDIS_URL_VARIABLE):
        return _with_password(url, password), True
    if (host, port, db) != (DEFAULT_HOST, DEFAULT_PORT, DEFAULT_DB) or password:
        return _with_password(build_url(host, port, db), password), True
    if embedded := read_server_file(name):
        return embedded, True
    return _with_password(DEFAULT_URL, None), False


def read_password_file(path: Path) -> str:
    """Return the password in a file, without a newline at its end.

    Raises `JobError` if other users can read the file, or if it holds no password.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise JobError(
                    f"{path} can be read by other users and is not trusted: run `chmod 600 {path}`."
                )
            password = file.read(_MAX_FILE_BYTES).removesuffix(b"\n").removesuffix(b"\r").decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise JobError(f"{path} cannot be read ({why}): name a file that holds the password.") from None
    if not password:
        raise JobError(f"{path} is empty: put the password into it.")
    return password


def _with_password(url: str, password: str | None) -> str:
    """Return the URL with this password. None means: the environment's password if the URL has none."""
    scheme, separator, rest = url.partition("://")
    end = next((at for at, character in enumerate(rest) if character in "/?#"), len(rest))
    login, _, host = rest[:end].rpartition("@")
    user, _, own = login.partition(":")
    if password is None:
        query = parse_qs(rest[end:].partition("?")[2])
        has_password = own or "password" in query or "@" in rest[end:]
        password = None if has_password else os.environ.get(PASSWORD_VARIABLE)
    if not password or not separator:
        return url
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}{rest[end:]}"


def build_url(
    host: str, port: int, db: int = DEFAULT_DB, *, username: str | None = None, password: str | None = None
) -> str:
    """Return a `redis://` URL. User and password are quoted, so no character can be taken for another part."""
    login = f"{quote(username or '', safe='')}:{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{bracketed(host)}:{port}/{db}"


class BadAddress(ValueError):
    """An address with several hosts cannot be read. The text contains no part of the address."""


@dataclass(frozen=True, slots=True)
class MultiHostAddress:
    """An address with several hosts: Sentinels, or nodes of a cluster."""

    kind: Literal["sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    service: str
    """The name under which the Sentinels watch the master; '' for a cluster."""
    first_host_url: str = field(repr=False)
    """A URL for redis-py that names only the first host."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse_multi_host(url: str) -> MultiHostAddress | None:
    """Parse `redis+sentinel://[login@]host:port,.../service[/db]` or `redis+cluster://[login@]host:port,...`.

    The login is for Redis. `sentinel_username` and `sentinel_password` in the query are for the Sentinels. Returns None
    for an address with one host. Raises `BadAddress`.
    """
    match = _MULTI_HOST.fullmatch(url)
    if match is None:
        return None
    scheme, kind, login, hosts, path, query = match.groups(default="")
    if not _HOSTS.fullmatch(hosts):
        raise BadAddress("write hosts and ports after the login, separated by commas")
    default_port = SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
    parsed = tuple(_host_and_port(host, default_port) for host in hosts.split(","))
    service, db = "", path
    if kind == "sentinel":
        service, _, db = path.partition("/")
        if not service:
            raise BadAddress("write the name of the service after the Sentinels, such as /mymaster")
    elif db not in ("", "0"):
        raise BadAddress("a cluster has only database 0")
    if db and not (db.isascii() and db.isdigit()):
        raise BadAddress("the database must be a number")
    options = dict(parse_qsl(query))
    username, password = options.pop("sentinel_username", None), options.pop("sentinel_password", None)
    host, port = parsed[0]
    first = f"{scheme}://{login}{bracketed(host)}:{port}/{db or 0}?{urlencode(options)}"
    return MultiHostAddress(
        "sentinel" if kind == "sentinel" else "cluster", parsed, unquote(service), first, username, password
    )


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if not 0 < int(port) < 65536:
        raise BadAddress("the port must be a number below 65536")
    return host.strip("[]"), int(port)


def cluster_address(address: str) -> str:
    """Return the address of the cluster to which the host in `address` belongs. Both as `redact` shows them."""
    scheme, separator, rest = address.rpartition("://")
    return f"{scheme if separator else 'redis'}+cluster://{rest.partition('/')[0]}"


def shown_url(url: str) -> str:
    """Return the address without secrets, in a form that a person can type after `--redis`."""
    shown = redact(url)
    return shown if "://" in shown else f"redis://{shown}"


def bracketed(host: str) -> str:
    """Return the host as a URL contains it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def redact(url: str) -> str:
    """Return the address without secrets: no user, no password, and of the query only the database.

    It is 'localhost:6379/0' for plain Redis, the path for a socket, and starts with the scheme for all others. Text
    that could be a password is replaced by '***'.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "redis", url
    if not re.fullmatch(r"[a-z0-9+.-]+", scheme):
        return _HIDDEN
    shown = "" if scheme in ("redis", "unix") else f"{scheme}://"
    location, _, tail = re.sub("[?#]", "\n", rest).partition("\n")
    if "@" in tail:  # An unquoted '?' or '#' in a password: the parts cannot be told apart.
        return f"{shown}{_HIDDEN}"
    location = location.rpartition("@")[2]
    db = parse_qs(tail.partition("\n")[0]).get("db", [""])[0]
    if scheme == "unix":
        return f"{location}?db={db}" if db.isdecimal() else location
    hosts, _, path = location.partition("/")
    if not _HOSTS.fullmatch(hosts):
        return f"{shown}{_HIDDEN}"
    if scheme in ("redis", "rediss"):
        if not re.search(r":\d+$", hosts):
            hosts = f"{hosts}:{DEFAULT_PORT}"
        path = next((number for number in (db, path) if number.isdecimal()), str(DEFAULT_DB))
    elif not re.fullmatch(r"[\w.-]*(?:/\d+)?", path):
        path = ""
    return f"{shown}{hosts}/{path}" if path else f"{shown}{hosts}"


def _refuse_files_of_others(path: Path, stat: os.stat_result) -> None:
    if stat.st_uid != os.getuid():
        raise MutiTaskError(f"{path} belongs to another user and is not trusted: delete it, or pass --redis.")
    if stat.st_mode & 0o077:
        raise MutiTaskError(
            f"{path} can be read or written by other users and is not trusted: "
            f"run `chmod 600 {path}`, or pass --redis."
        )
