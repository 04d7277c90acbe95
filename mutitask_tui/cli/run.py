"""`mutitask run JOB`: feed the tasks of a job file and show the dashboard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mutitask_tui.cli.errors import report_errors
from mutitask_tui.cli.redis_options import is_embedded, read_password, redis_options
from worker_agent.console import streams
from worker_agent.console.log_format import FORMATS, LEVELS, set_form
from worker_agent.protocol.rate import Rate, parse_rate
from worker_agent.protocol.retry_policy import MAX_DELAY_S
from worker_agent.settings import START_METHODS, check_child_options

if TYPE_CHECKING:
    from mutitask_tui.launch.redis_location import RedisLocation


def _parsed_rate(_context: click.Context, _param: click.Parameter, text: str | None) -> Rate | None:
    try:
        return None if text is None else parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@redis_options
@click.option("--devices", type=click.IntRange(0, 10_000), metavar="N",
              help="Number of devices in the grid.")  # fmt: skip
@click.option("--capacity", type=click.IntRange(1), metavar="N",
              help="Most waiting tasks in a channel. [50]")  # fmt: skip
@click.option("--retries", type=click.IntRange(0, 98), metavar="N",
              help="How often a failed task is retried automatically. [the job's, or 3]")  # fmt: skip
@click.option("--retry-delay", type=click.FloatRange(0, MAX_DELAY_S), metavar="SECONDS",
              help="How long a failed task waits before its first retry. [the job's, or 0]")  # fmt: skip
@click.option("--retry-factor", type=click.FloatRange(1, 1_000), metavar="FACTOR",
              help="How many times as long each further delay is. [the job's, or 2]")  # fmt: skip
@click.option("--retry-max-delay", type=click.FloatRange(0, MAX_DELAY_S), metavar="SECONDS",
              help="The longest delay to which it grows. [the job's, or 600]")  # fmt: skip
@click.option("--retry-jitter", type=click.FloatRange(0, 1), metavar="PART",
              help="The part of a delay by which it varies at random. [the job's, or 0.2]")  # fmt: skip
@click.option("--rate", callback=_parsed_rate, metavar="RATE",
              help="How many tasks of each channel start in a time: 10/s, 90/min, 1000/h. [the job's, or no limit]",
              )  # fmt: skip
@click.option("--lease", type=click.FloatRange(2), default=10.0, show_default=True, metavar="SECONDS",
              help="How long claims are good without a heartbeat.")  # fmt: skip
@click.option("--results-max", type=click.IntRange(1), default=1_000_000, show_default=True, metavar="N",
              help="Feeding pauses while more results than this wait to be drained.")  # fmt: skip
@click.option("--local-agents", type=click.IntRange(0, 1000), default=0, metavar="N",
              help="Number of agents to start on this machine.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 10_000), metavar="T",
              help="Local agents: how many tasks each runs at once. [1]")  # fmt: skip
@click.option("--kind", type=click.Choice(["auto", "thread", "process", "asyncio"]),
              help="Local agents: run tasks in threads, in processes, or on an event loop. [auto]")  # fmt: skip
@click.option("--processes", type=click.IntRange(1, 1000), metavar="N",
              help="Local agents with --kind asyncio: over how many processes each spreads its tasks. [1]",
              )  # fmt: skip
@click.option("--start-method", type=click.Choice(START_METHODS), metavar="METHOD",
              help="Local agents: how child processes start, forkserver or spawn. [forkserver on Linux]")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Local agents: a task that runs longer fails.")  # fmt: skip
@click.option("--reload", is_flag=True,
              help="Local agents: restart when the job or a module beside it changes. "
                   "Needs mutitask[reload].")  # fmt: skip
@click.option("--no-capture", is_flag=True,
              help="Local agents: leave what tasks print and log alone; it is not on the device's screen.")  # fmt: skip
@click.option("--autostart", is_flag=True, help="Devices start running instead of paused.")
@click.option("--headless", is_flag=True, help="Show no dashboard, even on a terminal.")
@click.option("--log-format", type=click.Choice(FORMATS),
              help="Print text, or one JSON object a line. Local agents log in the same form. [text]")  # fmt: skip
@click.option("--log-level", type=click.Choice(LEVELS), help="The least level that is printed. [info]")
@click.option("--until-done", is_flag=True,
              help="End when every task is done or failed; with status 7 if a task failed.")  # fmt: skip
@click.option("--failed-ok", is_flag=True,
              help="With --until-done: end with status 0 even if tasks failed.")  # fmt: skip
@click.option("--resume", "mode", flag_value="resume", help="Continue the work that the namespace holds.")
@click.option("--resume-anyway", "mode", flag_value="anyway",
              help="The same, even if the generator yields other items than before.")  # fmt: skip
@click.option("--fresh", "mode", flag_value="fresh", help="Delete the work that the namespace holds.")
@click.option(
    "--fsync", type=click.Choice(["everysec", "always", "no"]), default="everysec", show_default=True,
    help="When the embedded Valkey's writes are on its disk.",
)  # fmt: skip
@click.option(
    "--listen", metavar="HOST", help="Let other machines reach the embedded Valkey at this address."
)
@report_errors
def run(
    job: Path,
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    devices: int | None,
    capacity: int | None,
    retries: int | None,
    retry_delay: float | None,
    retry_factor: float | None,
    retry_max_delay: float | None,
    retry_jitter: float | None,
    rate: Rate | None,
    lease: float,
    results_max: int,
    local_agents: int,
    concurrency: int | None,
    kind: str | None,
    processes: int | None,
    start_method: str | None,
    timeout: float | None,
    reload: bool,
    no_capture: bool,
    autostart: bool,
    headless: bool,
    log_format: str | None,
    log_level: str | None,
    until_done: bool,
    failed_ok: bool,
    mode: str | None,
    fsync: str,
    listen: str | None,
) -> int:
    """Feed the tasks of the job file JOB and show the dashboard."""
    from mutitask_tui.launch.run_server import run_server
    from worker_agent.job import load_job
    from worker_agent.job_version import version_of
    from worker_agent.protocol.channel_terms import policy_fields, rate_fields
    from worker_agent.protocol.connection.address import check_name
    from worker_agent.protocol.errors import JobError
    from worker_agent.protocol.membership import RunPlan

    set_form(log_format, log_level)
    check_name(name)
    check_child_options(kind, processes, start_method)
    agent_options = _agent_options(
        local_agents,
        {
            "--concurrency": concurrency,
            "--kind": kind,
            "--processes": processes,
            "--start-method": start_method,
            "--timeout": timeout,
        },
        reload=reload,
        no_capture=no_capture,
    )
    home, environment = Path.cwd(), dict(os.environ)
    job_version = version_of(job.expanduser())
    with streams.preserved():
        loaded = load_job(job)
        iterators = loaded.iterators()
    if devices is None:
        devices = local_agents if local_agents or mode not in ("resume", "anyway") else None
    try:
        policies = policy_fields(
            loaded.retry, len(iterators), ("__main__", loaded.module),
            times=retries, delay=retry_delay, factor=retry_factor, max_delay=retry_max_delay, jitter=retry_jitter,
        )  # fmt: skip
        rates = rate_fields(rate or loaded.rates, len(iterators))
    except ValueError as error:
        raise JobError(f"{job}: {error}") from None
    plan = RunPlan(
        channels=len(iterators),
        devices=devices,
        capacity=capacity,
        policies=policies,
        rates=rates,
        lease_ms=round(lease * 1000),
        results_max=results_max,
        autostart=autostart,
        mode="resume" if mode == "anyway" else mode or "",  # type: ignore[arg-type]
        anyway=mode == "anyway",
        job=job_version,
    )
    return run_server(
        _find_location(redis_url, name, password_file, listen, fsync),
        name,
        plan,
        iterators,
        job=job,
        local_agents=local_agents,
        agent_options=agent_options,
        agents_home=home,
        agents_environment=environment,
        headless=headless,
        until_done=until_done,
        failed_ok=failed_ok,
        announce=bool(listen),
        totals=lambda: loaded.totals,
        on_allotted=loaded.on_allotted,
    )


def _agent_options(
    local_agents: int, given: Mapping[str, object], *, reload: bool, no_capture: bool
) -> list[str]:
    """Return the options for the command lines of local agents. Raises `JobError` if there are no local agents."""
    from worker_agent.agent.reload import check_installed
    from worker_agent.protocol.errors import JobError

    words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    words += ["--reload"] if reload else []
    words += ["--no-capture"] if no_capture else []
    if words and not local_agents:
        raise JobError(f"{words[0]} is for agents on this machine: add --local-agents N")
    if reload:
        check_installed()
    return words


def _find_location(
    redis_url: str | None, name: str, password_file: Path | None, listen: str | None, fsync: str
) -> RedisLocation:
    """Return the Redis that the options name, or else the embedded Valkey, which is started if necessary."""
    from mutitask_tui.launch.redis_location import RedisLocation, embedded_location
    from worker_agent.protocol.connection.address import resolve
    from worker_agent.protocol.errors import JobError

    url, found = resolve(redis_url, name, password=read_password(password_file))
    if found and (redis_url or password_file or not is_embedded(url, name)):
        if listen:
            raise JobError("--listen is for the embedded Valkey; leave out --redis and MUTITASK_REDIS_URL")
        return RedisLocation(url)
    return embedded_location(name, listen or "127.0.0.1", fsync)  # type: ignore[arg-type]
