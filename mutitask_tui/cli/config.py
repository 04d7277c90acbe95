"""`mutitask config`: print the dashboard's settings."""

from __future__ import annotations

import click

from mutitask_tui.cli.errors import report_errors
from worker_agent.console import lines


@click.command(short_help="Print the dashboard's settings.")
@report_errors
def config() -> int:
    """Print the dashboard's config file and every setting, and where each came from."""
    from mutitask_tui.settings.config_file import load
    from mutitask_tui.settings.show import to_lines

    lines.print_stdout(*to_lines(load()))
    return 0
