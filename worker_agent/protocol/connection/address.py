"""Where Redis is: what a person named, else what a server on this machine wrote down, else the default.

Pure functions over strings and files; nothing here connects.
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
from worker_agent.protocol.pristine import json

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379
DEFAULT_DB = 0
SENTINEL_PORT = 26379
DEFAULT_URL = f"redis://{DEFAULT_HOST}:{DEFAULT_PORT}/{DEFAULT_DB}"

REDIS_URL_VARIABLE = "MUTITASK_REDIS_URL"
PASSWORD_VARIABLE = "MUTITASK_REDIS_PASSWORD"  # noqa: S105 (its name)
"""The password for a URL that has none. The embedded Valkey has its own."""
STATE_DIR_VARIABLE = "MUTITASK_STATE_DIR"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOSTS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.%]+\])(?::\d+)?(?:,(?:[\w.-]+|\[[0-9a-fA-F:.%]+\])(?::\d+)?)*")
_SEVERAL = re.compile(r"(rediss?)\+(sentinel|cluster)://([^/?#]*@)?([^/?#@]*)(?:/([^?#]*))?(?:\?([^#]*))?")
_HIDDEN = "***"
_MOST_BYTES = 65_536
"""A server file holds a few hundred; what stands behind these is no part of one."""


@dataclass(frozen=True, slots=True)
class ServerFile:
    """What the embedded Valkey of a namespace left for programs on the same machine."""

    url: str = field(repr=False)
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    process: Identity


def check_name(name: str) -> str:
    """Return `name`, or raise `JobError` if no namespace can be called that."""
    if not _NAME.fullmatch(name) or name.strip(".") == "":
        raise JobError(
            f"{name!r} cannot name a namespace: use 1 to 64 letters, digits, dots, dashes and underscores."
        )
    return name


def state_dir() -> Path:
    """The directory in which MutiTask keeps what must outlive a process."""
    if own := os.environ.get(STATE_DIR_VARIABLE):
        return Path(own).absolute()
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "mutitask"


def server_file(name: str) -> Path:
    """Where the embedded Valkey of namespace `name` writes its address."""
    return state_dir() / check_name(name) / "server.json"


def read_server_file(name: str) -> str | None:
    """The URL of this machine's embedded Valkey for `name`, with user and password; None if none is noted."""
    record = load_server_file(server_file(name))
    if record is None:
        return None
    here = this_process()
    # A home directory shared between machines shows the others' files too; their localhost is not ours.
    if record.process.host != here.host and record.process.boot != here.boot:
        return None
    return record.url


def load_server_file(path: Path) -> ServerFile | None:
    """Read one server file; None if it is not there.

    A file that others could have written is refused: whoever writes it gets our tasks.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix":
                _refuse_strangers(path, os.fstat(file.fileno()))
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MutiTaskError(f"Cannot read {path} ({error.strerror}): mend it, or pass --redis.") from None
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
    """Raise `TypeError` where a field holds what no server writes."""
    process = record.process
    texts = (record.url, record.host, record.username, record.password, process.host, process.boot)
    numbers = (record.port, process.pid, process.start)
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError
    if not record.url.startswith("redis://") or not 0 < record.port < 65536:
        raise TypeError


def dump_server_file(record: ServerFile) -> bytes:
    """The content of a server file."""
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
    """Decide which Redis is meant.

    Returns the URL, and whether anybody named it: a URL, the environment, an address that is not the default,
    or the file of the embedded Valkey for namespace `name`. An unnamed URL is `redis://localhost:6379/0`.
    Whoever waits for a server asks again before each try, because the file may appear meanwhile. `password` stands
    above a URL's own, which stands above `MUTITASK_REDIS_PASSWORD`.
    """
    if url := redis_url or os.environ.get(REDIS_URL_VARIABLE):
        return _with_password(url, password), True
    if (host, port, db) != (DEFAULT_HOST, DEFAULT_PORT, DEFAULT_DB) or password:
        return _with_password(build_url(host, port, db), password), True
    if noted := read_server_file(name):
        return noted, True
    return _with_password(DEFAULT_URL, None), False


def read_password_file(path: Path) -> str:
    """The password in a file that nobody else can read, without a newline at its end. Raises `JobError`."""
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise JobError(
                    f"{path} can be read by other users and is not trusted: run `chmod 600 {path}`."
                )
            password = file.read(_MOST_BYTES).removesuffix(b"\n").removesuffix(b"\r").decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise JobError(f"{path} cannot be read ({why}): name a file that holds the password.") from None
    if not password:
        raise JobError(f"{path} is empty: put the password into it.")
    return password


def _with_password(url: str, password: str | None) -> str:
    """The URL with that password for its user; for None with the environment's, if it has none."""
    scheme, separator, rest = url.partition("://")
    end = next((at for at, character in enumerate(rest) if character in "/?#"), len(rest))
    login, _, host = rest[:end].rpartition("@")
    user, _, own = login.partition(":")
    if password is None:
        asked = parse_qs(rest[end:].partition("?")[2])
        password = (
            None if own or "password" in asked or "@" in rest[end:] else os.environ.get(PASSWORD_VARIABLE)
        )
    if not password or not separator:
        return url
    return f"{scheme}://{user}:{quote(password, safe='')}@{host}{rest[end:]}"


def build_url(
    host: str, port: int, db: int = DEFAULT_DB, *, username: str | None = None, password: str | None = None
) -> str:
    """A `redis://` URL in which no character of the user or the password can be mistaken for another part."""
    login = f"{quote(username or '', safe='')}:{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{bracketed(host)}:{port}/{db}"


class BadAddress(ValueError):
    """An address of several hosts that cannot be read. Its text holds nothing of the address."""


@dataclass(frozen=True, slots=True)
class MultiHostAddress:
    """An address of several hosts: Sentinels, or nodes of a cluster; `first_host_url` is redis-py's URL of the first."""

    kind: Literal["sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    service: str
    first_host_url: str = field(repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse_multi_host(url: str) -> MultiHostAddress | None:
    """The parts of `redis+sentinel://[login@]host:port,.../service[/db]` or `redis+cluster://[login@]host:port,...`.

    The login is Redis's; `sentinel_username` and `sentinel_password` in the query are the Sentinels'. None for an
    address of one host. Raises `BadAddress`.
    """
    match = _SEVERAL.fullmatch(url)
    if match is None:
        return None
    scheme, kind, login, hosts, path, query = match.groups(default="")
    if not _HOSTS.fullmatch(hosts):
        raise BadAddress("after the login come hosts and ports, with commas between them")
    places = tuple(
        _place(host, SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT) for host in hosts.split(",")
    )
    service, db = "", path
    if kind == "sentinel":
        service, _, db = path.partition("/")
        if not service:
            raise BadAddress("after the Sentinels comes the name of the service, /mymaster")
    elif db not in ("", "0"):
        raise BadAddress("a cluster has no database but 0")
    if db and not (db.isascii() and db.isdigit()):
        raise BadAddress("a database is a number")
    asked = dict(parse_qsl(query))
    username, password = asked.pop("sentinel_username", None), asked.pop("sentinel_password", None)
    host, port = places[0]
    single = f"{scheme}://{login}{bracketed(host)}:{port}/{db or 0}?{urlencode(asked)}"
    return MultiHostAddress(
        "sentinel" if kind == "sentinel" else "cluster", places, unquote(service), single, username, password
    )


def _place(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if not 0 < int(port) < 65536:
        raise BadAddress("a port is a number below 65536")
    return host.strip("[]"), int(port)


def cluster_address(address: str) -> str:
    """The address, as `redact` shows it, of the cluster that this one host belongs to."""
    scheme, separator, rest = address.rpartition("://")
    return f"{scheme if separator else 'redis'}+cluster://{rest.partition('/')[0]}"


def shown_url(url: str) -> str:
    """The address as people may see it and type it after `--redis`."""
    shown = redact(url)
    return shown if "://" in shown else f"redis://{shown}"


def bracketed(host: str) -> str:
    """A host as URLs write it: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def redact(url: str) -> str:
    """The address as people may see it: no user, no password, nothing from the query but the database.

    'localhost:6379/0' for plain Redis, the path for a socket, the scheme in front for all others. Text that
    cannot be told apart from a password is replaced by '***'.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "redis", url
    if not re.fullmatch(r"[a-z0-9+.-]+", scheme):
        return _HIDDEN
    shown = "" if scheme in ("redis", "unix") else f"{scheme}://"
    place, _, tail = re.sub("[?#]", "\n", rest).partition("\n")
    if "@" in tail:  # A raw '?' or '#' within a password: nothing is where it seems.
        return f"{shown}{_HIDDEN}"
    place = place.rpartition("@")[2]
    db = parse_qs(tail.partition("\n")[0]).get("db", [""])[0]
    if scheme == "unix":
        return f"{place}?db={db}" if db.isdecimal() else place
    hosts, _, path = place.partition("/")
    if not _HOSTS.fullmatch(hosts):
        return f"{shown}{_HIDDEN}"
    if scheme in ("redis", "rediss"):
        if not re.search(r":\d+$", hosts):
            hosts = f"{hosts}:{DEFAULT_PORT}"
        path = next((number for number in (db, path) if number.isdecimal()), str(DEFAULT_DB))
    elif not re.fullmatch(r"[\w.-]*(?:/\d+)?", path):
        path = ""
    return f"{shown}{hosts}/{path}" if path else f"{shown}{hosts}"


def _refuse_strangers(path: Path, stat: os.stat_result) -> None:
    if stat.st_uid != os.getuid():
        raise MutiTaskError(f"{path} belongs to another user and is not trusted: delete it, or pass --redis.")
    if stat.st_mode & 0o077:
        raise MutiTaskError(
            f"{path} can be read or written by other users and is not trusted: "
            f"run `chmod 600 {path}`, or pass --redis."
        )
