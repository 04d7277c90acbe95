"""Where an embedded Valkey may listen: ports to try, addresses to bind."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator

from worker_agent.protocol.errors import MutiTaskError

LOOPBACK = "127.0.0.1"


class EmbeddedError(MutiTaskError):
    """The embedded Valkey cannot be had; the text says why and what to do instead."""

    exit_status = 3


def candidates(named: int | None, desired: list[int | None]) -> Iterator[int]:
    """The ports to try in turn."""
    if named is not None:
        if not is_free(named):
            raise EmbeddedError(
                f"Port {named} is in use: leave the port out, name another, "
                "or pass --redis to use what listens there."
            )
        yield named
        raise EmbeddedError(f"Port {named} is in use: somebody took it just now; name another one.")
    yield from (port for port in dict.fromkeys(desired) if port and is_free(port))
    for _ in range(10):
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
        yield port


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of this machine."""
    try:
        socket.create_connection((LOOPBACK, port), 1.0).close()
    except OSError:
        return True
    return False


def check_bindable(addresses: list[str], port: int) -> None:
    """Say now what Valkey would only say in its log."""
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise EmbeddedError(
                        f"Cannot listen on {address}: this machine has no such address; name one of its own."
                    ) from None
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise EmbeddedError(f"Port {port} needs root's rights: name one from 1024 up.") from None


def bind_addresses(listen: str) -> list[str]:
    """What Valkey binds: loopback, and the address that was asked for."""
    if listen in ("*", "0.0.0.0"):  # noqa: S104
        return ["0.0.0.0"]  # noqa: S104
    if listen == "::":
        return ["0.0.0.0", "::"]  # noqa: S104
    try:
        found = socket.getaddrinfo(listen, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise EmbeddedError(
            f"Cannot listen on {listen!r}: it is neither an address nor a known host; "
            "name an address of this machine."
        ) from None
    return list(dict.fromkeys((LOOPBACK, str(found[0][4][0]))))


def is_loopback(address: str) -> bool:
    """Whether an address reaches this machine only."""
    try:
        return ipaddress.ip_address(address.lstrip("-")).is_loopback
    except ValueError:
        return False


def outward_address() -> str:
    """The address by which this machine is known to its network; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
