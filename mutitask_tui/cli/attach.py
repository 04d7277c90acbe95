"""`mutitask attach`: show the dashboard of a namespace that a server feeds elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.redis_options import find_address, redis_options


@click.command()
@redis_options
@click.option("--read-only", is_flag=True, help="Show everything, and change nothing.")
@report_errors
def attach(redis_url: str | None, name: str, password_file: Path | None, read_only: bool) -> int:
    """Show the dashboard of a namespace that a server feeds elsewhere."""
    from mutitask_tui.launch.attach import attach as show_dashboard

    return show_dashboard(find_address(redis_url, name, password_file), name, read_only=read_only)
