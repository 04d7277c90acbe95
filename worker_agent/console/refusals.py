"""Commands whose refusals are printable: click repeats what was typed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from worker_agent.protocol.printable import printable


class _Refusals:
    """Makes click's own refusals printable: they repeat what was typed."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _printable_refusals():
            return super().make_context(*args, **kwargs)  # type: ignore[misc,no-any-return]

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_refusals():
            return super().invoke(ctx)  # type: ignore[misc]


class Command(_Refusals, click.Command):
    """A command of its own."""


class Group(_Refusals, click.Group):
    """A command with commands beneath."""


@contextlib.contextmanager
def _printable_refusals() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = printable(error.message, lines=True)  # type: ignore[misc]
        raise
