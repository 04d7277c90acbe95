"""`mutitask ctl COMMAND`: carry out one command of the registry."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.jsonl import check_channel, write_utf8
from mutitask_tui.cli.redis_options import find_address, redis_options
from worker_agent.console import lines

if TYPE_CHECKING:
    from mutitask_tui.server.reader import Reader

INTERRUPTED = 130
"""The exit status of a command that Ctrl+C stopped."""
_PROGRESS_S = 2.0
"""How often a long command prints how far it is, in seconds."""


class _HelpWithCommands(click.Command):
    """A command whose help text lists the registry."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of the registry."""
        from mutitask_tui.server.commands.registry import COMMANDS

        with formatter.section("Commands"):
            formatter.write_dl([(command.usage, command.summary) for command in COMMANDS if command.run])


@click.command(
    cls=_HelpWithCommands,
    # Unknown options become arguments, because a JSON payload such as -5 looks like an option.
    context_settings={"ignore_unknown_options": True},
    short_help="Carry out one command of the dashboard.",
)
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...")
@redis_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--yes", is_flag=True, help="Do not ask before a command that deletes or stops something.")
@report_errors
def ctl(
    command: str,
    arguments: tuple[str, ...],
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    as_json: bool,
    yes: bool,
) -> int:
    """Carry out one command of the dashboard, such as `mutitask ctl pause_one 0`."""
    from mutitask_tui.launch.embedded_lifetime import stop_after_agents
    from mutitask_tui.server.commands.commander import Commander
    from mutitask_tui.server.commands.registry import CommandError, find
    from worker_agent.protocol.printable import printable

    if command == "help":
        click.echo(click.get_current_context().get_help())
        return 0
    found = find(command)
    to_stdout = found.name == "export_fail_tasks" and arguments[-1:] == ("-",)
    values = found.parse(arguments[:-1] if to_stdout else arguments)
    commander = Commander(find_address(redis_url, name, password_file), name)
    commander.reader.channels()  # Raises an error if the namespace does not exist.
    if to_stdout:
        return _print_failed_tasks(commander.reader, *values)
    if found.dangerous and not yes and sys.stdin.isatty():
        typed = " ".join([found.name, *arguments])
        if not click.confirm(printable(f"{typed}: {found.summary}. Do it?"), default=False, err=True):
            raise CommandError("nothing was done")
    with _interruptible() if found.long else contextlib.nullcontext():
        outcome = commander.run(found, values)
    text = outcome.text
    # If there is no server, only this command can stop the embedded Valkey after the agents.
    if found.name == "exit" and not outcome.data["server"] and stop_after_agents(commander.url, name):
        text += "; the embedded Valkey was stopped, and its data is kept on the disk"
    data = {"command": found.name, "ok": outcome.ok, "text": text, **outcome.data}
    if as_json:
        lines.print_json(data)
    else:
        lines.print_stdout(text)
    if outcome.data.get("stopped"):
        return INTERRUPTED
    return 0 if outcome.ok else 1


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Print how far the command in the block is. Ctrl+C stops it after its present step, a second one at once."""
    from mutitask_tui.server.watch import Watch, watched_by

    watch = Watch(lambda text: lines.print_stderr(f"{text} (Ctrl+C stops it)"), every_s=_PROGRESS_S)

    def stop(_signal: int, _frame: object) -> None:
        watch.stop()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        with watched_by(watch):
            yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _print_failed_tasks(reader: Reader, channel: int | None = None) -> int:
    from mutitask_tui.server.exports import export_failed

    check_channel(reader, channel)
    write_utf8()
    export_failed(reader, channel, sys.stdout)
    return 0
