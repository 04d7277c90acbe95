"""`mutitask demo`: a run that shows MutiTask at work, with data of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mutitask_tui.cli.errors import report_errors


@click.command(short_help="Watch MutiTask work on this machine's standard library.")
@click.option("--agents", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Number of local agents.")  # fmt: skip
@click.option("--headless", is_flag=True, help="Show no dashboard, even on a terminal.")
@report_errors
def demo(agents: int, headless: bool) -> int:
    """Report on every file of this machine's Python standard library, with four local agents.

    All data is deleted at the end. Without a terminal the demo ends by itself.
    """
    from mutitask_tui.embedded.valkey import ensure, find
    from mutitask_tui.launch.redis_location import RedisLocation
    from mutitask_tui.launch.run_server import run_server
    from worker_agent.job import load_job
    from worker_agent.protocol.membership import RunPlan

    name = "demo" if find("demo") is None else f"demo-{os.getpid()}"
    job = Path(__file__).parents[1] / "demo" / "stdlib_report.py"
    loaded = load_job(job)
    iterators = loaded.iterators()
    plan = RunPlan(channels=len(iterators), devices=agents, capacity=200, autostart=True)
    with ensure(name, throwaway=True) as embedded:
        embedded.announce(name)
        return run_server(
            RedisLocation(embedded.url, embedded),
            name,
            plan,
            iterators,
            job=job,
            local_agents=agents,
            headless=headless,
            until_done=True,
            failed_ok=True,
            stay=True,
            totals=lambda: loaded.totals,
        )
