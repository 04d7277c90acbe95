"""Choose where an embedded Valkey listens: ports to try, addresses to bind."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator

from mutitask_tui.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"


def candidates(requested: int | None, preferred: list[int | None]) -> Iterator[int]:
    """Yield the ports to try, in order: only `requested` if it is given, else the free `preferred` ones, then others.

    Raises `EmbeddedError` if `requested` is in use, also if another program takes it after it was yielded.
    """
    if requested is not None:
        if not is_free(requested):
            raise EmbeddedError(
                f"Port {requested} is in use: omit the port, choose another one, "
                "or pass --redis to use the server that listens there."
            )
        yield requested
        raise EmbeddedError(
            f"Port {requested} is in use: another program took it just now; choose another one."
        )
    yield from (port for port in dict.fromkeys(preferred) if port and is_free(port))
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
        yield port


def is_free(port: int) -> bool:
    """Return whether no program listens on that port of this machine."""
    try:
        socket.create_connection((LOOPBACK, port), 1.0).close()
    except OSError:
        return True
    return False


def check_bindable(addresses: list[str], port: int) -> None:
    """Check that the addresses can be bound, because Valkey reports a failure only in its log.

    Raises `EmbeddedError`.
    """
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise EmbeddedError(
                        f"Cannot listen on {address}: this machine has no such address; use one that it has."
                    ) from None
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise EmbeddedError(f"Port {port} needs root rights: use a port from 1024 up.") from None


def bind_addresses(listen: str) -> list[str]:
    """Return the addresses that Valkey binds: loopback, and `listen`. Raises `EmbeddedError` for an unknown host."""
    if listen in ("*", "0.0.0.0"):  # noqa: S104
        return ["0.0.0.0"]  # noqa: S104
    if listen == "::":
        return ["0.0.0.0", "::"]  # noqa: S104
    try:
        found = socket.getaddrinfo(listen, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise EmbeddedError(
            f"Cannot listen on {listen!r}: it is neither an address nor a known host; "
            "use an address of this machine."
        ) from None
    return list(dict.fromkeys((LOOPBACK, str(found[0][4][0]))))


def is_loopback(address: str) -> bool:
    """Return whether an address reaches only this machine."""
    try:
        return ipaddress.ip_address(address.lstrip("-")).is_loopback
    except ValueError:
        return False


def outward_address() -> str:
    """Return the address that this machine has in its network. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
