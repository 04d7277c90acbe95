"""The command line of an agent: `worker-agent JOB --device 0 --channel all`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import click

from worker_agent.agent import restart
from worker_agent.console import click_commands, lines, streams
from worker_agent.console.log_format import FORMATS, LEVELS, set_form
from worker_agent.protocol.errors import JobError, MutiTaskError
from worker_agent.protocol.served_channels import Served, parse_served
from worker_agent.settings import (
    MOST_AT_ONCE,
    START_METHODS,
    Functions,
    Kind,
    LifecycleFunctions,
    check_child_options,
    no_lifecycle,
    start_method_of,
)


class Channels(click.ParamType[Served]):
    """`all`, or the numbers of channels such as `0` and `0,2`."""

    name = "all|N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Served:
        """Return the numbers, or None for `all`."""
        try:
            return parse_served(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DeviceNumber(click.ParamType[int | None]):
    """A whole number, or `auto` for the first device that has no agent."""

    name = "N|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number, or None for `auto`."""
        text = str(value)
        if text == "auto":
            return None
        if not text.isascii() or not text.isdigit():
            self.fail(f"{text!r} is neither a device's number nor 'auto'", param, ctx)
        return int(text)


@click.command(cls=click_commands.Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("job", type=click.Path(path_type=Path))
@click.option("--redis", "redis_url", metavar="URL", help="Where Redis is; or set MUTITASK_REDIS_URL.")
@click.option("--name", default="default", show_default=True, help="The namespace to work in.")
@click.option(
    "--password-file", type=click.Path(path_type=Path), metavar="FILE",
    help="A file (0600) with the password; or set MUTITASK_REDIS_PASSWORD.",
)  # fmt: skip
@click.option(
    "--device", type=DeviceNumber(), default="auto", show_default=True, help="The device to register on."
)
@click.option(
    "--channel", "served", type=Channels(), default="all", show_default=True,
    help="The channels to serve: all, or numbers such as 0,2.",
)  # fmt: skip
@click.option(
    "--strict",
    is_flag=True,
    help="Serve the channels in the order of --channel: one gets claims only while those before it are empty.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, max(MOST_AT_ONCE.values())), default=1, show_default=True, metavar="T",
    help="How many tasks run at once. With --kind asyncio up to 10000, otherwise up to 1000.",
)  # fmt: skip
@click.option(
    "--kind", type=click.Choice(["auto", "thread", "process", "asyncio"]), default="auto", show_default=True,
    help="Run tasks in threads, in child processes, or as coroutines of one event loop. The agent survives a task that "
    "kills or blocks a child process. auto is asyncio if a task function is an `async def`, otherwise thread.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N",
    help="With --kind asyncio: spread the tasks over N child processes, each with its own event loop.",
)  # fmt: skip
@click.option(
    "--start-method", type=click.Choice(START_METHODS), metavar="METHOD",
    help="How child processes start: forkserver copies a process that has loaded the job, spawn loads it in each. fork "
    "is the same as forkserver. [forkserver on Linux]",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="A task that runs longer fails. Its process is killed, its coroutine cancelled; its thread is only abandoned.",
)  # fmt: skip
@click.option(
    "--max-tasks-per-child", type=click.IntRange(1), metavar="N",
    help="With --kind process: replace a process after this many tasks.",
)  # fmt: skip
@click.option(
    "--drain-timeout", type=click.FloatRange(0), metavar="SECONDS",
    help="After a stop, wait this long for running tasks, then hand them back. [no limit]",
)  # fmt: skip
@click.option(
    "--reload", is_flag=True,
    help="For development: restart when the job or a module beside it changes. Needs mutitask[reload].",
)  # fmt: skip
@click.option("--log-format", type=click.Choice(FORMATS), help="Log text, or one JSON object a line. [text]")
@click.option("--log-level", type=click.Choice(LEVELS), help="The least level that is logged. [info]")
@click.option(
    "--no-capture", is_flag=True,
    help="Leave what tasks print and log alone: without their numbers, and not on the device's screen.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Show tracebacks of MutiTask's own errors.")
@click.version_option(package_name="mutitask")
def worker_agent(
    job: Path,
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    device: int | None,
    served: Served,
    strict: bool,
    concurrency: int,
    kind: Kind | Literal["auto"],
    processes: int,
    start_method: str | None,
    timeout: float | None,
    max_tasks_per_child: int | None,
    drain_timeout: float | None,
    reload: bool,
    log_format: str | None,
    log_level: str | None,
    no_capture: bool,
    debug: bool,
) -> None:
    """Run the tasks of the channels with the functions of the job file JOB.

    It waits for a server if there is none yet. After SIGTERM or Ctrl+C, running tasks finish, and tasks that
    have not started are handed back. A second signal does not wait.
    """
    from worker_agent.agent.end_note import write_end_note
    from worker_agent.agent.process import run_agent
    from worker_agent.agent.reload import check_installed, remember_files
    from worker_agent.execution.task_lines import capture_streams
    from worker_agent.job_version import JobVersion
    from worker_agent.protocol.connection.address import check_name, read_password_file, resolve
    from worker_agent.settings import Settings

    set_form(log_format, log_level)
    job_version = JobVersion(job.expanduser().absolute())
    job_at_fault = False
    try:
        check_name(name)
        if max_tasks_per_child is not None and kind != "process":
            raise JobError("--max-tasks-per-child needs --kind process: threads cannot be replaced")
        check_child_options(kind, processes, start_method)
        if reload:
            check_installed()
            remember_files(job)
        job_at_fault = True
        if not no_capture and kind != "process" and processes == 1:
            capture_streams()
        found = _functions(job, served, kind, processes, debug=debug)
        job_at_fault = False
        if concurrency > (most := MOST_AT_ONCE[found.kind]):
            raise JobError(f"--concurrency is {most} at most with --kind {found.kind}, not {concurrency}")
        if processes > concurrency:
            raise JobError(f"--processes {processes} needs --concurrency {processes} or more")
        password = None if password_file is None else read_password_file(password_file)
        settings = Settings(
            address=lambda: resolve(redis_url, name, password=password)[0],
            name=name,
            device=device,
            served=served,
            concurrency=concurrency,
            functions=found.functions,
            kind=found.kind,
            processes=processes,
            start_method=start_method_of(start_method),
            timeout=timeout,
            max_tasks_per_child=max_tasks_per_child,
            drain_timeout=drain_timeout,
            job=str(job.expanduser().absolute()),
            job_version=job_version,
            weights=found.weights,
            strict=strict,
            lifecycle=found.lifecycle,
            reload=reload,
            capture=not no_capture,
        )
        status = run_agent(settings)
        job_at_fault = status == JobError.exit_status
    except MutiTaskError as error:
        if not isinstance(error, _ToldByChild):
            if debug:
                lines.print_traceback()
            lines.print_stderr(f"worker-agent: {error}", "error")
        status = error.exit_status
        restart.report_failure(lambda: _address(redis_url, name, password_file), name, str(error))
    if reload and job_at_fault:
        _wait_and_start_anew(job_version.path)
    write_end_note("ended")
    sys.exit(status)


class _ToldByChild(JobError):
    """A child process has said why the job cannot be loaded."""

    def __init__(self, job: Path, status: int) -> None:
        super().__init__(f"{job} cannot be loaded: the agent's log says why")
        self.exit_status = status


def _address(redis_url: str | None, name: str, password_file: Path | None) -> str:
    from worker_agent.protocol.connection.address import read_password_file, resolve

    password = None if password_file is None else read_password_file(password_file)
    return resolve(redis_url, name, password=password)[0]


def _wait_and_start_anew(job: Path) -> NoReturn:
    """Wait until somebody mends the job, then start again. For `--reload`."""
    from worker_agent.agent.reload import wait_for_change

    lines.print_stderr(
        "worker-agent: waiting for a change of the job or of a module beside it (--reload)", "info"
    )
    try:
        wait_for_change(job)
        restart.start_anew(restart.device_before())
    except KeyboardInterrupt:
        sys.exit(130)


class _Found(NamedTuple):
    """What the agent needs of a job."""

    kind: Kind
    functions: Functions
    lifecycle: LifecycleFunctions
    weights: tuple[float, ...]


def _functions(
    job: Path, served: Served, kind: Kind | Literal["auto"], processes: int, *, debug: bool
) -> _Found:
    """Return the job's functions and its weights, and the kind that `auto` means for it.

    If child processes run the tasks, only they load the job, since it may replace parts of Python that the agent needs.
    Raises `JobError`. If a child process has reported the error, this process ends with the child's exit status.
    """
    from worker_agent.console.log import log_to_stderr
    from worker_agent.job import load_job

    if kind == "auto" or (kind != "process" and processes == 1):
        with streams.preserved():
            log_to_stderr(protected=True)
            loaded = load_job(job)
            loaded.check_functions(served)
            if kind == "auto":
                kind = "asyncio" if loaded.is_async else "thread"
            return _Found(kind, loaded.functions_for, loaded.lifecycle_for, loaded.weights)
    from worker_agent.execution.child_process import check_job
    from worker_agent.execution.process_handle import describe_exit

    status, weights = check_job(job, served, debug=debug)
    if status < 0:
        raise JobError(
            f"{job} cannot be loaded: it ended the process that loaded it ({describe_exit(status)})"
        )
    if status:
        raise _ToldByChild(job, status)
    return _Found(kind, _only_in_children, no_lifecycle, weights)


def _only_in_children(_channel: int) -> NoReturn:
    raise NotImplementedError("only child processes use the job's functions")


def main() -> None:
    """Run the console script `worker-agent`."""
    streams.save_stderr()
    restart.remember_start()
    worker_agent(prog_name="worker-agent")
