"""The settings of `mutitask serve`: what it serves, where, and with which password."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from worker_agent.protocol.errors import MutiTaskError

PASSWORD_VARIABLE = "MUTITASK_SERVE_PASSWORD"  # noqa: S105 - the name of the variable
MIN_PASSWORD_LENGTH = 8


class ServeError(MutiTaskError):
    """The dashboard cannot be served."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What is served, where, and to whom."""

    url: str
    """The Redis address. The views get it in their environment, never as an argument."""
    name: str
    host: str
    port: int
    password: str
    allow_commands: bool = False
    public_url: str = ""
    """The address for browsers, if it differs from `host` and `port`: behind a proxy that speaks TLS."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def command(self) -> str:
        """The command line that shows one view."""
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
    """Return whether a host name or address reaches only this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def find_password(file: Path | None) -> tuple[str, bool]:
    """Return the viewers' password, and whether it is a new one.

    Takes it from the file, else from the environment, else creates one. Raises `ServeError`.
    """
    password = os.environ.pop(PASSWORD_VARIABLE, "")  # Removed, so that the views do not inherit it.
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ServeError(f"the login file {file} cannot be read ({reason})") from None
        if not password:
            raise ServeError(f"the login file {file} is empty: put the password in it")
    if not password:
        return secrets.token_urlsafe(24), True
    if len(password) < MIN_PASSWORD_LENGTH:
        raise ServeError(f"the password is too short: use at least {MIN_PASSWORD_LENGTH} characters")
    return password, False
