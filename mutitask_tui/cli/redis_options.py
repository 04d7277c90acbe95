"""The options `--redis`, `--name` and `--password-file`, and the Redis address that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def redis_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options as the parameters `redis_url`, `name` and `password_file`."""
    function = click.option(
        "--password-file", type=click.Path(path_type=Path), metavar="FILE",
        help="A file (mode 0600) that contains the password; or set MUTITASK_REDIS_PASSWORD.",
    )(function)  # fmt: skip
    function = click.option(
        "--name", default="default", show_default=True, metavar="NS", help="The namespace."
    )(function)
    return click.option(
        "--redis", "redis_url", metavar="URL",
        help="The Redis address; or set MUTITASK_REDIS_URL. Without one: this machine's embedded Valkey.",
    )(function)  # fmt: skip


def find_address(redis_url: str | None, name: str, password_file: Path | None) -> str:
    """Return the URL of the namespace's Redis.

    If the namespace has a sleeping embedded Valkey, starts it until the end of this command.
    """
    from mutitask_tui.launch.embedded_lifetime import start_temporarily
    from worker_agent.protocol.connection.address import check_name, resolve

    context = click.get_current_context()
    url, found = resolve(redis_url, check_name(name), password=read_password(password_file))
    if not found or is_embedded(url, name):
        temporary = start_temporarily(name)
        if temporary is not None:
            context.call_on_close(temporary.stop_if_unused)
            return temporary.url
    if not found:
        context.obj = name
    return url


def searched_namespace() -> str | None:
    """Return the namespace if `find_address` fell back to the default address, because it found no other. Else None."""
    name: str | None = click.get_current_context().obj
    return name


def read_password(file: Path | None) -> str | None:
    """Return the password in the file; None without a file. Raises `MutiTaskError`."""
    from worker_agent.protocol.connection.address import read_password_file

    return None if file is None else read_password_file(file)


def is_embedded(url: str, name: str) -> bool:
    """Return whether `url` is the embedded Valkey of this namespace."""
    from worker_agent.protocol.connection.address import read_server_file

    return url == read_server_file(name)
