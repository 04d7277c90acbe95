"""`mutitask status`: print the state of a namespace once."""

from __future__ import annotations

from pathlib import Path

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.redis_options import find_address, redis_options
from worker_agent.console import lines


@click.command()
@redis_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@report_errors
def status(redis_url: str | None, name: str, password_file: Path | None, as_json: bool) -> int:
    """Print the state of a namespace."""
    from mutitask_tui.server.reader import Reader
    from mutitask_tui.server.status import to_data, to_lines

    snapshot = Reader(find_address(redis_url, name, password_file), name).snapshot()
    if as_json:
        lines.print_json(to_data(snapshot))
    else:
        lines.print_stdout(*to_lines(snapshot))
    return 0
