"""The console script `mutitask`: its group of commands. Each command is one module beside this one.

The modules import what they need inside their functions, so that `mutitask --help` starts quickly.
"""

from __future__ import annotations

import click

from mutitask_tui.cli.attach import attach
from mutitask_tui.cli.config import config
from mutitask_tui.cli.ctl import ctl
from mutitask_tui.cli.demo import demo
from mutitask_tui.cli.results import results
from mutitask_tui.cli.run import run
from mutitask_tui.cli.serve import serve
from mutitask_tui.cli.status import status
from worker_agent.console import click_commands, streams


@click.group(cls=click_commands.Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks of MutiTask's own errors.")
@click.version_option(package_name="mutitask")
def cli(debug: bool) -> None:
    """Feed a generator of tasks to many machines, from a dashboard in the terminal."""


for _command in (run, demo, attach, status, ctl, serve, config, results):
    cli.add_command(_command)


def main() -> None:
    """Run the console script."""
    streams.save_stderr()
    cli(prog_name="mutitask")
