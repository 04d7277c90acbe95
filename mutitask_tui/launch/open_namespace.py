"""Open the namespace of a server, and ask a person on a terminal what to do with work that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from mutitask_tui.server.core import ServerCore, fresh_plan, resume_plan
from worker_agent.console import lines, streams
from worker_agent.protocol.errors import JobError, NamespaceHoldsWork
from worker_agent.protocol.membership import RunPlan


def open_core(
    url: str,
    name: str,
    plan: RunPlan,
    iterators: Sequence[Iterator[Any]],
    on_note: Callable[[str], None],
    *,
    may_ask: bool,
    totals: Callable[[], Sequence[int | None]] = tuple,
    on_allotted: Callable[[int, Any, int], None] | None = None,
) -> ServerCore:
    """Return a core that holds the namespace.

    If the namespace holds work and `plan` does not say what to do with it, asks a person on a terminal, provided
    that `may_ask` is set. Raises `MutiTaskError`.
    """

    def new_core(plan: RunPlan) -> ServerCore:
        return ServerCore(url, name, plan, iterators, totals=totals, on_allotted=on_allotted, on_note=on_note)

    core = new_core(plan)
    core.check()
    try:
        core.open()
    except NamespaceHoldsWork as work:
        if plan.mode or not (may_ask and streams.on_terminal()):
            raise
        choose_mode = _ask(str(work).partition(": pass --resume")[0])
        if choose_mode is None:
            raise JobError("nothing was started and nothing was deleted") from None
        core = new_core(choose_mode(plan))
        core.open()
    return core


@streams.original()
def _ask(text: str) -> Callable[[RunPlan], RunPlan] | None:
    """Ask whether to resume or to start fresh. Return the function that changes the plan; None to cancel."""
    lines.print_stdout(f"{text}.")
    answer = click.prompt(
        "resume continues this work, fresh deletes it",
        type=click.Choice(["resume", "fresh", "cancel"]),
        default="cancel",
    )
    if answer == "resume":
        return resume_plan
    if answer == "fresh" and click.confirm("Delete everything in this namespace?", default=False):
        return fresh_plan
    return None
