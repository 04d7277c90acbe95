"""Starts this program anew in its process, by exec, with the arguments, directory and environment of its start."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from worker_agent.console import streams
from worker_agent.protocol.errors import MutiTaskError

DEVICE_VARIABLE = "MUTITASK_RESTARTED_DEVICE"
"""The environment variable by which a program tells the one that it becomes the device of its agent."""

_directory = ""
_environment: dict[str, str] = {}
_device: int | None = None


class CannotRestart(MutiTaskError):
    """This process cannot start its program anew."""

    exit_status = 1


def remember_start() -> None:
    """Keep the directory and the environment, which a job may change. A program calls this before it loads the job."""
    global _directory, _environment, _device
    if _environment:
        return
    text = os.environ.pop(DEVICE_VARIABLE, "")
    _device = int(text) if text.isascii() and text.isdigit() else None
    _environment = dict(os.environ)
    with contextlib.suppress(OSError):
        _directory = os.getcwd()  # noqa: PTH109 - a path object would not be used


def device_before() -> int | None:
    """Return the device that this process's agent had before the process started its program anew, or None."""
    return _device


def report_failure(address: Callable[[], str], name: str, why: str) -> None:
    """Tell the dashboard why an agent that restarts ends: its device would only be offline.

    Does nothing for an agent that did not restart, or if Redis does not answer.
    """
    if _device is not None:
        with contextlib.suppress(Exception):
            _write_failure(address(), name, _device, why)


def _write_failure(url: str, name: str, device: int, why: str) -> None:
    from worker_agent.protocol.actor import Actor
    from worker_agent.protocol.broker import Broker
    from worker_agent.protocol.connection.address import redact
    from worker_agent.protocol.connection.connect import connect
    from worker_agent.protocol.printable import printable

    text = printable(f"its agent could not start again: {why}", 500)
    with connect(url) as client:
        broker = Broker(client, name, Actor.agent(), address=redact(url))
        broker.append_event("error", f"Device{device}", text)
        broker.append_device_log(device, [text])


def start_anew(device: int | None) -> NoReturn:
    """Replace this process's program by a new start of it, for an agent of this device. Raises `CannotRestart`."""
    if not sys.executable or len(sys.orig_argv) < 2:
        raise CannotRestart("cannot restart: this process does not know how it was started; start it again")
    with contextlib.suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr, streams.stderr()):
        with contextlib.suppress(Exception):
            stream.flush()
    streams.restore_descriptors()
    environment = {**(_environment or os.environ)}
    if device is not None:
        environment[DEVICE_VARIABLE] = str(device)
    try:
        if _directory:
            os.chdir(_directory)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - its own start
    except OSError as error:
        raise CannotRestart(f"cannot restart ({error.strerror}): start the agent again") from None
