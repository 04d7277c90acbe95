"""Report the errors of a command: one sentence and an exit status instead of a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from mutitask_tui.cli.redis_options import searched_namespace
from worker_agent.console import lines
from worker_agent.protocol.errors import MutiTaskError

P = ParamSpec("P")


def report_errors(function: Callable[P, int | None]) -> Callable[P, None]:
    """Let a command end with the exit status that it returns, or with a sentence and a status if it raises.

    `--debug` prints the traceback as well.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from mutitask_tui.server.commands.registry import CommandError
        from worker_agent.protocol.connection.redis_errors import advice

        debug = bool(click.get_current_context().find_root().params.get("debug"))
        try:
            status = function(*args, **kwargs) or 0
        except CommandError as error:
            status = _report(f"{error}", 2, debug)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except MutiTaskError as error:
            status = _report(_no_known_server(error) or advice(error), error.exit_status, debug)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _discard_output()
            status = _report(
                f"cannot use {error.filename or 'the output'} ({error.strerror}): "
                "fix that, or choose another path; nothing is lost",
                1,
                debug,
            )
        except Exception as error:
            status = _report(
                f"the data in Redis cannot be understood ({type(error).__name__}: {error}); "
                "if another program writes there, choose another --name, else report it with --debug",
                1,
                debug,
            )
        sys.exit(status)

    return run


def _report(sentence: str, status: int, debug: bool) -> int:
    """Print the sentence, and for `--debug` the traceback before it. Return the exit status."""
    if debug:
        lines.print_traceback()
    lines.print_stderr(f"mutitask: {sentence}", "error")
    return status


def _no_known_server(error: MutiTaskError) -> str:
    """Return the sentence for a command that was given no address and found none on this machine, else ''."""
    from worker_agent.protocol.connection.redis_errors import NoRights
    from worker_agent.protocol.errors import RedisUnavailable

    name = searched_namespace()
    if name is None or not isinstance(error, NoRights | RedisUnavailable):
        return ""
    return (
        f"no server of namespace {name!r} is known on this machine: "
        "start one with `mutitask run JOB`, or pass its address with --redis"
    )


def _discard_output() -> None:
    """Redirect stdout to nothing, so that the end of the process does not try to write the rest of it again."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
