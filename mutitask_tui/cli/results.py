"""`mutitask results export`: print the results that wait in Redis."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.jsonl import check_channel, write_utf8
from mutitask_tui.cli.redis_options import find_address, redis_options


@click.group()
def results() -> None:
    """Print or drain the results that wait in Redis."""


@results.command()
@redis_options
@click.option("--channel", type=click.IntRange(0), metavar="C", help="Only this channel. [all channels]")
@click.option("--format", "format_", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
@click.option("--drain", is_flag=True, help="Remove each result from Redis after it was printed.")
@report_errors
def export(
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    channel: int | None,
    format_: str,
    drain: bool,
) -> int:
    """Print results as JSON lines, oldest first in each channel."""
    from mutitask_tui.server.exports import export_results
    from mutitask_tui.server.reader import Reader
    from worker_agent.protocol.actor import Actor
    from worker_agent.protocol.broker import Broker

    reader = Reader(find_address(redis_url, name, password_file), name)
    count = check_channel(reader, channel)
    write_utf8()
    broker = None
    if drain:
        broker = Broker(reader.client, name, Actor.operator(), address=reader.address)
        broker.register_operator()
    for number in range(count) if channel is None else [channel]:
        export_results(reader, broker, number, sys.stdout)
    return 0
