"""Run one server: open its namespace, start its local agents and its dashboard, and stop what it started."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutitask_tui.embedded.keeper import Keeper
from mutitask_tui.embedded.process import EmbeddedServer
from mutitask_tui.launch.embedded_lifetime import stop_if_unused
from mutitask_tui.launch.local_agents import LocalAgents
from mutitask_tui.launch.open_namespace import open_core
from mutitask_tui.launch.redis_location import RedisLocation
from mutitask_tui.launch.server_session import ServerSession, log_line
from mutitask_tui.server.core import ServerCore
from mutitask_tui.settings.config_file import load
from worker_agent.console import log_format, streams
from worker_agent.protocol.connection.address import shown_url
from worker_agent.protocol.errors import Superseded
from worker_agent.protocol.membership import RunPlan


def run_server(
    location: RedisLocation,
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
    """Run a server until its end. Return the exit status. Raises `MutiTaskError` if the namespace cannot be opened.

    agents_home, agents_environment: directory and environment of local agents. A job may have changed this process's.
    stay: keep the dashboard open when `until_done` is reached.
    announce: print the command line for other machines, with the password.
    """
    embedded = location.embedded if location.embedded and not location.embedded.throwaway else None
    try:
        core = open_core(
            location.url, name, plan, iterators, log_line,
            may_ask=not headless, totals=totals, on_allotted=on_allotted,
        )  # fmt: skip
    except BaseException:
        if embedded and embedded.started:
            stop_if_unused(embedded, name)
        raise
    log_format.CONTEXT["run"] = core.run.id if core.run else ""
    dashboard = not headless and streams.on_terminal()
    config = load() if dashboard else None
    shown_job = str(job) if job else "job.py"
    if not dashboard or announce:
        _announce(location, core, shown_job, with_password=announce)

    def on_note(text: str) -> None:
        core.note("warning", text)
        if not dashboard:
            log_line(text, "warning")

    agents = LocalAgents(
        job or Path(shown_job),
        location.url,
        name,
        local_agents,
        on_note,
        options=agent_options,
        home=agents_home,
        environment=agents_environment,
    )
    name_option = "" if name == "default" else f" --name {name}"
    redis_option = "" if location.embedded else f" --redis {shlex.quote(shown_url(location.url))}"
    session = ServerSession(
        core,
        agents,
        dashboard=dashboard,
        until_done=until_done,
        failed_ok=failed_ok,
        stay=stay,
        config=config,
        data_kept=not (location.embedded and location.embedded.throwaway),
        attach_line=f"mutitask attach{redis_option}{name_option}",
        join_line=location.join_line(shown_job, name, with_password=False),
        join_note=location.join_note,
    )
    if embedded is None:
        return session.run()
    keeper = Keeper(embedded, name, location.fsync, on_note)
    keeper.start()
    try:
        return session.run()
    finally:
        keeper.end()
        _stop_embedded(embedded, core, name_option, data_removed=keeper.data_removed)


def _announce(location: RedisLocation, core: ServerCore, job: str, *, with_password: bool) -> None:
    """Print the namespace, its address and its run, and with `with_password` the line for other machines."""
    log_line(f"namespace {core.name!r} on {location.shown_address}; run {core.run.id if core.run else ''}")
    if with_password:
        # Only here is the password shown: a person asked for a line to type on other machines.
        log_line(f"on other machines: {location.join_line(job, core.name, with_password=True)}")


def _stop_embedded(
    embedded: EmbeddedServer, core: ServerCore, name_option: str, *, data_removed: bool
) -> None:
    """Stop the embedded Valkey with its server, unless it is still needed. Say why it keeps running."""
    if data_removed:
        log_line(
            f"the embedded Valkey (process {embedded.pid}) keeps running, because its data was removed from the disk: "
            f"`mutitask results export{name_option}` prints its results, `kill {embedded.pid}` ends it and loses its "
            "data"
        )
    elif core.quit:
        embedded.stop()
    elif not isinstance(core.failure, Superseded) and (user := stop_if_unused(embedded, core.name)):
        log_line(f"the embedded Valkey keeps running for {user}; `mutitask ctl exit{name_option}` stops it")
