"""`mutitask serve`: show the dashboard of a namespace in browsers."""

from __future__ import annotations

from pathlib import Path

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.redis_options import find_address, redis_options


@click.command(short_help="Show the dashboard in a browser.")
@redis_options
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              help="The port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--allow-commands", is_flag=True, help="Let viewers carry out commands.")
@click.option("--login-file", type=click.Path(path_type=Path), metavar="FILE",
              help="The viewers' password. Without one: MUTITASK_SERVE_PASSWORD, or a new one, printed.")  # fmt: skip
@click.option("--public-url", default="", metavar="URL",
              help="The address for browsers, if a proxy is in front of this server.")  # fmt: skip
@report_errors
def serve(
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    host: str,
    port: int,
    allow_commands: bool,
    login_file: Path | None,
    public_url: str,
) -> int:
    """Show the dashboard of a namespace in browsers, read-only, behind a password.

    Needs textual-serve: pip install 'mutitask[serve]'.
    """
    from mutitask_tui.server.reader import Reader
    from mutitask_tui.web.settings import ServeError, WebSettings, find_password

    password, is_new = find_password(login_file)
    url = find_address(redis_url, name, password_file)
    Reader(url, name).snapshot()  # Raises an error if the namespace does not exist.
    try:
        from mutitask_tui.web.web_server import run
    except ImportError:
        raise ServeError("serve needs textual-serve: pip install 'mutitask[serve]'") from None
    settings = WebSettings(url, name, host, port, password, allow_commands, public_url)
    return run(settings, announce_password=is_new)
