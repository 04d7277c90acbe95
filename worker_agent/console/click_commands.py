"""Click commands whose usage errors are printable, although click repeats what was typed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from worker_agent.protocol.printable import printable


class _PrintableUsageErrors:
    """Makes the messages of click's own errors printable."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _printable_errors():
            return super().make_context(*args, **kwargs)  # type: ignore[misc,no-any-return]

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_errors():
            return super().invoke(ctx)  # type: ignore[misc]


class Command(_PrintableUsageErrors, click.Command):
    """A single command."""


class Group(_PrintableUsageErrors, click.Group):
    """A command with subcommands."""


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = printable(error.message, lines=True)  # type: ignore[misc]
        raise
