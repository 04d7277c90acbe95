"""`mutitask serve`: the dashboard of a namespace in browsers. What is served is an attached view, never the server.

textual-serve starts one `mutitask attach` for each browser tab. It has no login: `web.py` puts one before all of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sys
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE
from worker_agent.protocol.errors import MutiTaskError
from worker_agent.protocol.pristine import time

PASSWORD_VARIABLE = "MUTITASK_SERVE_PASSWORD"  # noqa: S105 - the name of the variable
LEAST_PASSWORD = 8
MOST_VIEWERS = 20
VIEW_BYTES = 1536 * 1024 * 1024
"""Of addresses, which a view has more of than of memory: some 600 MB when it starts."""
PARENT_S = 0.5
"""How often a view looks whether its web server is still there."""


class ServeError(MutiTaskError):
    """The dashboard cannot be served."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, where, and to whom."""

    url: str
    """Of Redis; it goes to the views by their environment, never by an argument."""
    name: str
    host: str
    port: int
    password: str
    allow_commands: bool = False
    public_url: str = ""
    """Where browsers find it, if that is not `host` and `port`: behind a proxy that speaks TLS."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def command(self) -> str:
        """The line that shows one view."""
        words = [
            sys.executable,
            "-c",
            "from mutitask_tui.cli.main import main; main()",
            "attach",
            "--name",
            self.name,
        ]
        return shlex.join(words if self.allow_commands else [*words, "--read-only"])


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def find_password(file: Path | None) -> tuple[str, bool]:
    """The password, from the file or the environment, or a new one; whether it is new. Raises `ServeError`."""
    named = os.environ.pop(PASSWORD_VARIABLE, "")  # The views need not know it.
    if file is not None:
        try:
            named = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise ServeError(f"the login file {file} cannot be read ({why})") from None
        if not named:
            raise ServeError(f"the login file {file} is empty: put the password in it")
    if not named:
        return secrets.token_urlsafe(24), True
    if len(named) < LEAST_PASSWORD:
        raise ServeError(f"the password is too short: give it at least {LEAST_PASSWORD} characters")
    return named, False


def confine_view() -> None:
    """For a view in a browser, at its start: bound its memory, and end it with its web server, however that ends."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (VIEW_BYTES, VIEW_BYTES))
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_S)
        os._exit(1)

    threading.Thread(target=watch, name="web-server", daemon=True).start()


def serve(serving: Serving, *, announce_password: bool) -> int:
    """Serve until a signal; the exit status. Raises `ServeError`."""
    try:
        from mutitask_tui.web.web_server import run
    except ImportError:
        raise ServeError("serve needs textual-serve: pip install 'mutitask[serve]'") from None
    os.environ[REDIS_URL_VARIABLE] = serving.url
    return run(serving, announce_password=announce_password)
