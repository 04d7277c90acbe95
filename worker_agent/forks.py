"""What a process forked by a task, a save function or a generator finds: Python's defaults, and nothing of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import NoReturn

OURS = ("worker_agent", "mutitask_tui", "asyncio", "textual")
"""The packages whose signal handlers a forked child must not keep: they talk to threads that it does not have."""

count = 0
"""How many forks lie between this process and the one that imported this module, but for those behind Python's back."""


def ignore(_number: int, _frame: object) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited by what is started by exec."""


def end_copy(error: BaseException | None) -> NoReturn:
    """End this process: a person's function forked, and this copy came back into our code.

    It would run and settle again what is the original's. Its exit status is what Python would give it.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)


def _after_in_child() -> None:
    global count
    count += 1
    with contextlib.suppress(ValueError, OSError):
        signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        with contextlib.suppress(ValueError, OSError):
            handler = signal.getsignal(number)
            if getattr(handler, "__module__", "").partition(".")[0] in OURS:
                by_default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, by_default)


os.register_at_fork(after_in_child=_after_in_child)
