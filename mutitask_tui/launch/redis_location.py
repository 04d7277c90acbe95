"""Where the Redis of a server is, and how agents on other machines connect to it."""

from __future__ import annotations

from dataclasses import dataclass

from mutitask_tui.embedded.directory import Fsync
from mutitask_tui.embedded.ports import LOOPBACK
from mutitask_tui.embedded.process import EmbeddedServer
from mutitask_tui.embedded.valkey import ensure
from mutitask_tui.server.commands.redis_backend import worker_line
from worker_agent.protocol.connection.address import redact, shown_url


@dataclass(frozen=True, slots=True)
class RedisLocation:
    """The Redis that a server uses: one that a person named, or an embedded Valkey."""

    url: str
    """For programs on this machine, with user and password."""
    embedded: EmbeddedServer | None = None
    """The embedded Valkey at that address; None if a person named the Redis."""
    fsync: Fsync = "everysec"

    @property
    def shown_address(self) -> str:
        """The address without the password."""
        return redact(self.url)

    @property
    def join_note(self) -> str:
        """What another machine needs before its agents can connect, or ''."""
        if self.embedded is None or self.embedded.listen != LOOPBACK:
            return ""
        return (
            "The embedded Valkey listens only on this machine, so no other machine can join yet. Stop the server with "
            "q (waiting tasks are kept), and start it again with: --resume --listen ADDRESS, an address of this "
            "machine that the others can reach."
        )

    def join_line(self, job: str, name: str, *, with_password: bool) -> str:
        """Return the `worker-agent` command line for another machine."""
        url = self.embedded.join_url if self.embedded else self.url
        address = url if with_password else shown_url(url)
        return worker_line(job, address, *([] if name == "default" else ["--name", name]))


def embedded_location(
    name: str, listen: str, fsync: Fsync = "everysec", *, usual_port: bool = False
) -> RedisLocation:
    """Find or start the embedded Valkey of a namespace. Raises `EmbeddedError`."""
    server = ensure(name, listen=listen, fsync=fsync, usual_port=usual_port)
    return RedisLocation(server.url, server, fsync)
