"""Runs one server: opens the namespace, starts local agents, shows the dashboard, ends what it began."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutitask_tui.embedded.keeper import Keeper
from mutitask_tui.launch.local_agents import LocalAgents
from mutitask_tui.launch.open_namespace import Place, end_with_server, join_line, join_note, open_core
from mutitask_tui.launch.server_session import Session, say
from mutitask_tui.settings.config_file import load
from worker_agent.console import streams
from worker_agent.protocol.connection.address import shown_url
from worker_agent.protocol.errors import Superseded
from worker_agent.protocol.membership import RunPlan


def run_server(
    place: Place,
    name: str,
    plan: RunPlan,
    iterators: Sequence[Iterator[Any]],
    *,
    job: Path | None = None,
    local_agents: int = 0,
    agent_options: Sequence[str] = (),
    agents_home: Path | None = None,
    agents_environment: Mapping[str, str] | None = None,
    headless: bool = False,
    until_done: bool = False,
    failed_ok: bool = False,
    stay: bool = False,
    announce: bool = False,
    totals: Callable[[], Sequence[int | None]] = tuple,
    on_allotted: Callable[[int, Any, int], None] | None = None,
) -> int:
    """The exit status. Raises `MutiTaskError` where the namespace cannot be had.

    Local agents start in `agents_home` with `agents_environment`: a job may have changed this process's own.
    """
    own = place.own if place.own and not place.own.throwaway else None
    try:
        core = open_core(
            place, name, plan, iterators, say, may_ask=not headless, totals=totals, on_allotted=on_allotted
        )
    except BaseException:
        if own and own.started:
            end_with_server(own, name)
        raise
    dashboard = not headless and streams.on_terminal()
    config = load() if dashboard else None
    shown_job = str(job) if job else "job.py"
    if not dashboard or announce:
        say(f"namespace {name!r} on {place.shown}; run {core.run.id if core.run else ''}")
        if announce:
            # A person asked for a line to type elsewhere: it is the one place where the password is shown.
            say(f"on other machines: {join_line(place, shown_job, name, with_password=True)}")

    def tell(text: str) -> None:
        core.note("warning", text)
        if not dashboard:
            say(text)

    agents = LocalAgents(
        job or Path(shown_job),
        place.url,
        name,
        local_agents,
        plan.channels,
        tell,
        options=agent_options,
        home=agents_home,
        environment=agents_environment,
    )
    named = "" if name == "default" else f" --name {name}"
    address = "" if place.own else f" --redis {shlex.quote(shown_url(place.url))}"
    session = Session(
        core,
        agents,
        dashboard=dashboard,
        until_done=until_done,
        failed_ok=failed_ok,
        stay=stay,
        config=config,
        kept=not (place.own and place.own.throwaway),
        attach_line=f"mutitask attach{address}{named}",
        join_line=join_line(place, shown_job, name, with_password=False),
        join_note=join_note(place),
    )
    keeper = None
    if own:
        keeper = Keeper(own, name, place.fsync, tell)
        keeper.start()
    try:
        return session.run()
    finally:
        if keeper:
            keeper.end()
        if own and keeper and keeper.homeless:
            say(
                f"the embedded Valkey (process {own.pid}) goes on, because its data was removed from the disk: "
                f"`mutitask results export{named}` brings its results, `kill {own.pid}` ends it and drops what it holds"
            )
        elif own and core.quit:
            own.stop()
        elif own and not isinstance(core.failure, Superseded) and (who := end_with_server(own, name)):
            say(f"the embedded Valkey goes on for {who}; `mutitask ctl exit{named}` ends it")
