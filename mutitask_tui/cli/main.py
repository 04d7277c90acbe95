"""`mutitask run | attach | ctl | status | results | demo`: the server and everything about it as commands."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from worker_agent.console import click_commands, lines, streams
from worker_agent.protocol.errors import MutiTaskError

if TYPE_CHECKING:
    from mutitask_tui.server.reader import Reader

P = ParamSpec("P")


def for_people(function: Callable[P, int | None]) -> Callable[P, None]:
    """End with one sentence and a status instead of a traceback, unless `--debug` asks for it."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from mutitask_tui.server.commands.registry import CommandError
        from worker_agent.protocol.connection.redis_errors import advice

        debug = bool(click.get_current_context().find_root().params.get("debug"))
        try:
            status = function(*args, **kwargs) or 0
        except CommandError as error:
            status = _told(f"{error}", 2, debug)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except MutiTaskError as error:
            status = _told(_unnamed(error) or advice(error), error.exit_status, debug)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _give_up_output()
            status = _told(
                f"the system refuses {error.filename or 'the output'} ({error.strerror}): "
                "mend that, or name another place; nothing is lost",
                1,
                debug,
            )
        except Exception as error:
            status = _told(
                f"what Redis holds there cannot be understood ({type(error).__name__}: {error}); "
                "if another program writes there choose another --name, else report it with --debug",
                1,
                debug,
            )
        sys.exit(status)

    return run


def _told(sentence: str, status: int, debug: bool) -> int:
    """Say what is wrong, with the traceback before it for `--debug`; the exit status."""
    if debug:
        lines.print_traceback()
    lines.print_stderr(f"mutitask: {sentence}")
    return status


def _give_up_output() -> None:
    """What could not be written is not tried once more when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _address(redis_url: str | None, name: str, password_file: Path | None) -> str:
    """The URL of the namespace's Redis; remembers where nobody named one.

    An embedded Valkey that ended with its server is started for as long as this command needs what it kept.
    """
    from mutitask_tui.launch.open_namespace import wake_up
    from worker_agent.protocol.connection.address import check_name, resolve

    url, named = resolve(redis_url, check_name(name), password=_password(password_file))
    if not named or _is_embedded(url, name):
        awake = wake_up(name)
        if awake is not None:
            click.get_current_context().call_on_close(awake.sleep_again)
            return awake.url
    if not named:
        click.get_current_context().obj = name
    return url


def _password(file: Path | None) -> str | None:
    from worker_agent.protocol.connection.address import read_password_file

    return None if file is None else read_password_file(file)


def _unnamed(error: MutiTaskError) -> str:
    """What to say where nobody named an address and no server of the namespace is on this machine, or ''."""
    from worker_agent.protocol.connection.redis_errors import NoRights
    from worker_agent.protocol.errors import RedisUnavailable

    name = click.get_current_context().obj
    if name is None or not isinstance(error, NoRights | RedisUnavailable):
        return ""
    return (
        f"no server of namespace {name!r} is known on this machine: "
        "start one with `mutitask run JOB`, or say with --redis where it is"
    )


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--redis`, `--name` and `--password-file`, as every command has them."""
    function = click.option(
        "--password-file", type=click.Path(path_type=Path), metavar="FILE",
        help="A file (0600) with the password; or set MUTITASK_REDIS_PASSWORD.",
    )(function)  # fmt: skip
    function = click.option(
        "--name", default="default", show_default=True, metavar="NS", help="The namespace."
    )(function)
    return click.option(
        "--redis", "redis_url", metavar="URL",
        help="Where Redis is; or set MUTITASK_REDIS_URL. None: this machine's embedded Valkey.",
    )(function)  # fmt: skip


@click.group(cls=click_commands.Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks of MutiTask's own errors.")
@click.version_option(package_name="mutitask")
def cli(debug: bool) -> None:
    """Feed a generator of tasks to many machines, from a dashboard in the terminal."""


@cli.command()
@click.argument("job", type=click.Path(path_type=Path))
@place_options
@click.option("--devices", type=click.IntRange(0, 10_000), metavar="N", help="Devices in the grid.")
@click.option("--capacity", type=click.IntRange(1), metavar="N", help="Most waiting tasks of a channel. [50]")
@click.option("--retries", type=click.IntRange(0, 98), default=3, show_default=True, metavar="N",
              help="How often a failed task is run again by itself.")  # fmt: skip
@click.option("--retry-delay", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SECONDS",
              help="How long a failed task waits before it is run again.")  # fmt: skip
@click.option("--lease", type=click.FloatRange(2), default=10.0, show_default=True, metavar="SECONDS",
              help="How long claims are good without a report.")  # fmt: skip
@click.option("--results-max", type=click.IntRange(1), default=1_000_000, show_default=True, metavar="N",
              help="Feeding pauses above this many results that nobody drained.")  # fmt: skip
@click.option("--local-agents", type=click.IntRange(0, 1000), default=0, metavar="N",
              help="Agents to start on this machine.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 1000), metavar="T",
              help="Local agents: how many tasks each runs at once. [1]")  # fmt: skip
@click.option("--kind", type=click.Choice(["thread", "process"]),
              help="Local agents: what tasks run in. [thread]")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Local agents: a task that runs longer fails.")  # fmt: skip
@click.option("--autostart", is_flag=True, help="Devices begin running instead of paused.")
@click.option("--headless", is_flag=True, help="No dashboard, even on a terminal.")
@click.option("--until-done", is_flag=True,
              help="End when every task is done or failed; with status 7 where one failed.")  # fmt: skip
@click.option("--failed-ok", is_flag=True, help="With --until-done: end with status 0 though tasks failed.")
@click.option("--resume", "mode", flag_value="resume", help="Go on with the work that the namespace holds.")
@click.option("--resume-anyway", "mode", flag_value="anyway",
              help="The same, though the generator yields other items than before.")  # fmt: skip
@click.option("--fresh", "mode", flag_value="fresh", help="Drop the work that the namespace holds.")
@click.option(
    "--fsync", type=click.Choice(["everysec", "always", "no"]), default="everysec", show_default=True,
    help="When the embedded Valkey's writes are on its disk.",
)  # fmt: skip
@click.option(
    "--listen", metavar="HOST", help="Let other machines reach the embedded Valkey at this address."
)
@for_people
def run(
    job: Path,
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    devices: int | None,
    capacity: int | None,
    retries: int,
    retry_delay: float,
    lease: float,
    results_max: int,
    local_agents: int,
    concurrency: int | None,
    kind: str | None,
    timeout: float | None,
    autostart: bool,
    headless: bool,
    until_done: bool,
    failed_ok: bool,
    mode: str | None,
    fsync: str,
    listen: str | None,
) -> int:
    """Feed the tasks of the job file JOB and show the dashboard."""
    from mutitask_tui.launch.open_namespace import Place, embedded_place
    from mutitask_tui.launch.run_server import run_server
    from worker_agent.job import load_job
    from worker_agent.protocol.connection.address import check_name, resolve
    from worker_agent.protocol.errors import JobError
    from worker_agent.protocol.membership import RunPlan

    check_name(name)
    given = {"--concurrency": concurrency, "--kind": kind, "--timeout": timeout}
    agent_options = [
        part for option, value in given.items() if value is not None for part in (option, str(value))
    ]
    if agent_options and not local_agents:
        raise JobError(f"{agent_options[0]} is for agents on this machine: add --local-agents N")
    home, environment = Path.cwd(), dict(os.environ)
    with streams.preserved():
        loaded = load_job(job)
        iterators = loaded.iterators()
    url, named = resolve(redis_url, name, password=_password(password_file))
    outside = named and (bool(redis_url or password_file) or not _is_embedded(url, name))
    if outside and listen:
        raise JobError("--listen is for the embedded Valkey; leave out --redis and MUTITASK_REDIS_URL")
    if devices is None:
        devices = local_agents if local_agents or mode not in ("resume", "anyway") else None
    plan = RunPlan(
        channels=len(iterators),
        devices=devices,
        capacity=capacity,
        retries=retries,
        retry_delay_ms=round(retry_delay * 1000),
        lease_ms=round(lease * 1000),
        results_max=results_max,
        autostart=autostart,
        mode="resume" if mode == "anyway" else mode or "",  # type: ignore[arg-type]
        anyway=mode == "anyway",
    )
    place = Place(url, None) if outside else embedded_place(name, listen or "127.0.0.1", fsync)  # type: ignore[arg-type]
    return run_server(
        place,
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


def _is_embedded(url: str, name: str) -> bool:
    from worker_agent.protocol.connection.address import read_server_file

    return url == read_server_file(name)


@cli.command(short_help="Watch it work on this machine's standard library.")
@click.option("--agents", type=click.IntRange(1, 64), default=4, show_default=True, help="Local agents.")
@click.option("--headless", is_flag=True, help="No dashboard, even on a terminal.")
@for_people
def demo(agents: int, headless: bool) -> int:
    """Report on every file of this machine's Python standard library, with four local agents.

    Everything is thrown away at the end. Without a terminal it ends by itself.
    """
    from mutitask_tui.embedded import valkey as embedded
    from mutitask_tui.launch.open_namespace import Place
    from mutitask_tui.launch.run_server import run_server
    from worker_agent.job import load_job
    from worker_agent.protocol.membership import RunPlan

    name = "demo" if embedded.find("demo") is None else f"demo-{os.getpid()}"
    job = Path(__file__).parents[1] / "demo" / "stdlib_report.py"
    loaded = load_job(job)
    iterators = loaded.iterators()
    plan = RunPlan(channels=len(iterators), devices=agents, capacity=200, autostart=True)
    with embedded.ensure(name, throwaway=True) as own:
        own.announce(name)
        return run_server(
            Place(own.url, own),
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


@cli.command()
@place_options
@click.option("--read-only", is_flag=True, help="Look, and change nothing.")
@for_people
def attach(redis_url: str | None, name: str, password_file: Path | None, read_only: bool) -> int:
    """Show the dashboard of a namespace that a server feeds elsewhere."""
    from mutitask_tui.launch.server_session import attach as show
    from worker_agent.protocol.errors import JobError

    url = _address(redis_url, name, password_file)
    in_browser = bool(os.environ.get("TEXTUAL_DRIVER"))
    if not in_browser and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise JobError("attach needs a terminal; `mutitask status` prints the same once")
    return show(url, name, read_only=read_only)


@cli.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@for_people
def status(redis_url: str | None, name: str, password_file: Path | None, as_json: bool) -> int:
    """Print where a namespace stands."""
    from mutitask_tui.server.reader import Reader
    from mutitask_tui.server.status import to_data, to_lines

    snapshot = Reader(_address(redis_url, name, password_file), name).snapshot()
    if as_json:
        lines.print_json(to_data(snapshot))
    else:
        lines.print_stdout(*to_lines(snapshot))
    return 0


class Commands(click.Command):
    """`ctl`, with a help text that lists the registry."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, from the one registry."""
        from mutitask_tui.server.commands.registry import COMMANDS

        with formatter.section("Commands"):
            formatter.write_dl([(command.usage, command.summary) for command in COMMANDS if command.run])


@cli.command(
    cls=Commands,
    context_settings={"ignore_unknown_options": True},
    short_help="Carry out one command of the dashboard.",
)
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--yes", is_flag=True, help="Do not ask before a command that drops or stops something.")
@for_people
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
    # Unknown options are arguments: a JSON payload may well be -5.
    from mutitask_tui.launch.open_namespace import put_to_rest
    from mutitask_tui.server.commands.commander import Commander
    from mutitask_tui.server.commands.registry import CommandError, find
    from worker_agent.protocol.printable import printable

    if command == "help":
        click.echo(click.get_current_context().get_help())
        return 0
    found = find(command)
    to_stdout = found.name == "export_fail_tasks" and arguments[-1:] == ("-",)
    values = found.parse(arguments[:-1] if to_stdout else arguments)
    commander = Commander(_address(redis_url, name, password_file), name)
    commander.reader.channels()
    if to_stdout:
        return _print_failed(commander.reader, *values)
    if found.dangerous and not yes and sys.stdin.isatty():
        asked = " ".join([found.name, *arguments])
        if not click.confirm(printable(f"{asked}: {found.summary}. Do it?"), default=False, err=True):
            raise CommandError("nothing was done")
    outcome = commander.run(found, values)
    text = outcome.text
    # Where there is no server, nobody else will do it behind its agents.
    if found.name == "exit" and not outcome.data["server"] and put_to_rest(commander.url, name):
        text += "; the embedded Valkey is ended, and what it holds is kept on disk"
    data = {"command": found.name, "ok": outcome.ok, "text": text, **outcome.data}
    if as_json:
        lines.print_json(data)
    else:
        lines.print_stdout(text)
    return 0 if outcome.ok else 1


def _print_failed(reader: Reader, channel: int | None = None) -> int:
    from mutitask_tui.server.exports import export_failed

    _check_channel(reader, channel)
    _write_utf8()
    export_failed(reader, channel, sys.stdout)
    return 0


def _check_channel(reader: Reader, channel: int | None) -> int:
    """The number of channels. Raises `JobError` where that one is not among them."""
    from worker_agent.protocol.errors import JobError

    count = reader.channels()
    if channel is not None and channel >= count:
        raise JobError(f"there is no channel {channel}; there is 0 to {count - 1}")
    return count


def _write_utf8() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON lines are UTF-8, whatever the terminal is.


@cli.command(short_help="Show the dashboard in a browser.")
@place_options
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              help="The port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--allow-commands", is_flag=True, help="Let viewers carry out commands, not only look.")
@click.option("--login-file", type=click.Path(path_type=Path), metavar="FILE",
              help="The viewers' password. None: MUTITASK_SERVE_PASSWORD, or a new one, printed.")  # fmt: skip
@click.option("--public-url", default="", metavar="URL",
              help="Where browsers find it, if a proxy stands before it.")  # fmt: skip
@for_people
def serve(
    redis_url: str | None,
    name: str,
    password_file: Path | None,
    host: str,
    port: int,
    allow_commands: bool,
    login_file: Path | None,
    public_url: str,
) -> int:
    """Show the dashboard of a namespace in browsers, read-only, behind a password.

    Needs textual-serve: pip install 'mutitask[serve]'.
    """
    from mutitask_tui.server.reader import Reader
    from mutitask_tui.web.serve import Serving, find_password
    from mutitask_tui.web.serve import serve as show

    password, new = find_password(login_file)
    url = _address(redis_url, name, password_file)
    Reader(url, name).snapshot()
    serving = Serving(url, name, host, port, password, allow_commands, public_url)
    return show(serving, announce_password=new)


@cli.command(short_help="Print the dashboard's settings.")
@for_people
def config() -> int:
    """Print the dashboard's config file and every setting, and where each came from."""
    from mutitask_tui.settings.config_file import load
    from mutitask_tui.settings.show import to_lines

    lines.print_stdout(*to_lines(load()))
    return 0


@cli.group()
def results() -> None:
    """What the task functions returned, as long as it waits in Redis."""


@results.command()
@place_options
@click.option("--channel", type=click.IntRange(0), metavar="C", help="One channel; without it all of them.")
@click.option("--format", "format_", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
@click.option("--drain", is_flag=True, help="Take each result out of Redis once it is printed.")
@for_people
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

    reader = Reader(_address(redis_url, name, password_file), name)
    count = _check_channel(reader, channel)
    _write_utf8()
    broker = None
    if drain:
        broker = Broker(reader.client, name, Actor.operator(), address=reader.where)
        broker.register_operator()
    for number in range(count) if channel is None else [channel]:
        export_results(reader, broker, number, sys.stdout)
    return 0


def main() -> None:
    """The console script."""
    streams.save_stderr()
    cli(prog_name="mutitask")
