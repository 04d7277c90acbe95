"""Loads and checks the job: the user's tasks and functions, from a job file or from a program.

A job file is an ordinary Python file. It may define

    tasks            a generator function or an iterator, or a list with one of them for each channel; `async def` too
                     (server only)
    task_function    solves one task; its only parameter is the task
    save_function    saves one result; without it, results wait in Redis
    task_functions, save_functions    instead, a list with one function for each channel
    weights          a list with one number for each channel: its share of the claims of an agent that serves several
    setup, teardown  called once in each process that runs tasks, before its first and after its last task. Plain or
                     async; the only parameter, if there is one, is the device's number. Or a list with one function or
                     None for each channel
    retry            `Retry(...)` for all channels, or a list with one of them for each (server only)
    rates            text such as "10/s" for all channels, or a list with one text or None for each (server only)
    total, totals    the number of tasks, or a function that counts them; only for the progress display
    on_allotted      called as on_allotted(count, last_item) after each push. A source that cannot be repeated (a queue,
                     a socket) should drop items only then. An optional third parameter gets the channel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import stat
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from worker_agent.async_calls import plain
from worker_agent.import_path import drop_shadowing_modules, reserve_for_job
from worker_agent.job_checks import (
    JobTypeError,
    PerChannel,
    accepts,
    as_iterators,
    check_lifecycle,
    check_on_allotted,
    check_save_function,
    check_task_function,
    type_name,
)
from worker_agent.protocol.channel_terms import Policies, Rates, checked_policies, checked_rates
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.served_channels import Served
from worker_agent.settings import LifecycleFunction, SaveFunction, TaskFunction, is_async

Total = int | Callable[[], int] | None
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Job:
    """The checked contents of a job file. Its generator functions have not been called yet."""

    path: Path
    tasks: object
    """The value in the file, or None if there is none."""
    task_function: TaskFunction | None
    save_function: SaveFunction | None = None
    task_functions: tuple[TaskFunction | None, ...] = ()
    save_functions: tuple[SaveFunction | None, ...] = ()
    total_counts: tuple[Total, ...] = ()
    weights: tuple[float, ...] = ()
    retry: Policies = None
    rates: Rates = None
    module: str = ""
    """The name under which the file was imported."""
    on_allotted: Callable[[int, Any, int], None] | None = None
    setups: PerChannel = None
    teardowns: PerChannel = None

    @property
    def totals(self) -> tuple[int | None, ...]:
        """The number of tasks of each channel, None where unknown. A function in the file counts them now."""
        return tuple(self._count(total) for total in self.total_counts)

    def needs_tasks(self) -> None:
        """Raise `JobError` if the file defines no tasks. A server needs them, an agent does not."""
        if self.tasks is None:
            raise JobError(
                f"{self.path} has no `tasks`: "
                "add a generator function, `def tasks(): ...`, that yields each task."
            )

    def iterators(self) -> list[Iterator[Any]]:
        """Call the generator functions, and return one iterator for each channel."""
        self.needs_tasks()
        given = self.tasks if isinstance(self.tasks, list | tuple) else [self.tasks]
        try:
            iterators = as_iterators([self._iterator_from(source) for source in given])
        except JobTypeError as error:
            raise JobTypeError(f"{self.path}: {error}") from None
        if self.task_function is None and len(self.task_functions) < len(iterators):
            raise JobError(
                f"{self.path} has {len(iterators)} generators and {len(self.task_functions)} task functions: "
                "put one for each generator into `task_functions`, or define one `task_function` for all."
            )
        return iterators

    def functions_for(self, channel: int) -> tuple[TaskFunction, SaveFunction | None]:
        """Return the task function and the save function of one channel. Without the latter, results wait in Redis."""
        task_function = _function_at(self.task_functions, channel, self.task_function)
        if task_function is None:
            raise JobError(
                f"{self.path} has no task function for channel {channel}: "
                f"its `task_functions` lists only {len(self.task_functions)}."
            )
        if self.save_functions and channel < len(self.save_functions):
            return task_function, self.save_functions[channel]
        return task_function, self.save_function

    def lifecycle_for(self, channel: int) -> tuple[LifecycleFunction | None, LifecycleFunction | None]:
        """Return the setup and the teardown function of one channel."""
        return _of_channel(self.setups, channel), _of_channel(self.teardowns, channel)

    @property
    def is_async(self) -> bool:
        """Whether one of the task functions is an `async def`."""
        return any(
            is_async(function)
            for function in (self.task_function, *self.task_functions)
            if function is not None
        )

    def check_functions(self, served: Served) -> None:
        """Raise `JobError` if the job has no task function for a channel that is named; for `all`, if it has none."""
        for channel in (0,) if served is None else served:
            self.functions_for(channel)

    def _iterator_from(self, source: object) -> object:
        """Call a generator function. A job file may define the function, but a program must pass the iterator."""
        if not callable(source) or isinstance(source, Iterator):
            return source
        name = getattr(source, "__name__", "tasks")
        if not accepts(source, 0):
            raise JobError(
                f"{self.path}: `{name}` has a parameter: "
                f"pass a generator function without parameters, or call it, `{name}(...)`."
            )
        try:
            made = source()
        except Exception as error:
            raise JobError(
                f"{self.path}: calling `{name}` failed{error_location(error, self.path)}."
            ) from error
        if not isinstance(made, Iterator | AsyncIterator):
            raise JobTypeError(
                f"`{name}()` returned {type_name(made)}, not an iterator: let it `yield` each task."
            )
        return made

    def _count(self, total: Total) -> int | None:
        try:
            number = plain(total)() if callable(total) else total
        except Exception as error:
            raise JobError(
                f"{self.path}: counting the tasks failed{error_location(error, self.path)}."
            ) from error
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
            raise JobError(f"{self.path}: a total must be a whole number of 0 or more, not {number!r}.")
        return number


def load_job(path: str | Path) -> Job:
    """Run a job file as a module, with its directory on `sys.path`, and check its contents. Raises `JobError`."""
    file = Path(path).expanduser().absolute()
    shown = Path(path)
    _check_file(file, shown)
    module = _run(file, shown)
    for name, check in (("task_function", check_task_function), ("save_function", check_save_function)):
        for function in (getattr(module, name, None), *_list_in(module, f"{name}s", shown)):
            if function is not None:
                try:
                    check(function)
                except JobTypeError as error:
                    raise JobTypeError(f"{shown}: {error}") from None
    job = Job(
        path=shown,
        tasks=getattr(module, "tasks", None),
        task_function=getattr(module, "task_function", None),
        save_function=getattr(module, "save_function", None),
        task_functions=_list_in(module, "task_functions", shown),
        save_functions=_list_in(module, "save_functions", shown),
        total_counts=_list_in(module, "totals", shown) or _one_total(getattr(module, "total", None)),
        weights=_checked_weights(getattr(module, "weights", None), shown),
        retry=_checked(checked_policies, getattr(module, "retry", None), shown),
        rates=_checked(checked_rates, getattr(module, "rates", None), shown),
        module=module.__name__,
        on_allotted=_checked(check_on_allotted, getattr(module, "on_allotted", None), shown),
        setups=_checked(check_lifecycle, getattr(module, "setup", None), shown),
        teardowns=_checked(check_lifecycle, getattr(module, "teardown", None), shown),
    )
    if job.task_function is None and not any(job.task_functions):
        raise JobError(
            f"{shown} has no `task_function`: "
            "add `def task_function(task): ...`, which returns the task's result."
        )
    return job


def _of_channel(functions: PerChannel, channel: int) -> LifecycleFunction | None:
    if not isinstance(functions, tuple):
        return functions
    return functions[channel] if channel < len(functions) else None


def _checked_weights(weights: object, shown: Path) -> tuple[float, ...]:
    if weights is None:
        return ()
    if not isinstance(weights, list | tuple) or not all(
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < float("inf")
        for weight in weights
    ):
        raise JobTypeError(
            f"{shown}: `weights` must be a list with one number above 0 for each channel, such as [3, 1]."
        )
    return tuple(float(weight) for weight in weights)


def _checked(check: Callable[[object], Value], value: object, shown: Path) -> Value:
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise JobTypeError(f"{shown}: {error}") from None


def _check_file(file: Path, shown: Path) -> None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise JobError(
            f"{shown} cannot be read ({error.strerror}): name a job file, such as job.py."
        ) from None
    except ValueError:
        raise JobError(f"{str(shown)!r} is not a file name: name a job file, such as job.py.") from None
    if stat.S_ISDIR(mode):
        raise JobError(f"{shown} is a directory: name a job file, such as {shown / 'job.py'}.")
    if file.suffix != ".py":
        raise JobError(f"{shown} is not a Python file: a job file's name ends in .py.")


def _run(file: Path, shown: Path) -> ModuleType:
    name = _module_name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise JobError(f"{shown} is not a Python file: a job file's name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    directory = str(file.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    reserve_for_job(directory)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise JobError(
            f"{shown} cannot be loaded{error_location(error, file)}: {how_to_fix(error)}."
        ) from error
    drop_shadowing_modules(directory)
    return module


def _module_name(file: Path) -> str:
    """Return the module name of a job file: its own name, unless another module has that name.

    Processes that a task spawns import the job by this name. A job file may be called json.py. Then it gets a name
    that shadows nothing, and spawned processes cannot import it.
    """
    stem, known = file.stem, sys.modules.get(file.stem)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return stem
    if known is None and stem.isidentifier() and stem not in sys.stdlib_module_names:
        try:
            spec = importlib.util.find_spec(stem)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin == str(file):
            return stem
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()[:8]
    return f"mutitask_job_{re.sub(r'[^A-Za-z0-9_]', '_', stem)}_{digest}"


def error_location(error: BaseException, file: Path) -> str:
    """Return `, line 3, ZeroDivisionError: division by zero`, with the last line of the file in the traceback."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
    if isinstance(error, SyntaxError):
        elsewhere = "" if error.filename in (None, str(file)) else f" of {error.filename}"
        line = f", line {error.lineno}{elsewhere}" if error.lineno else ""
        return f"{line}, {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).absolute() == file.absolute()]
    line = f", line {lines[-1]}" if lines else ""
    return f"{line}, {type(error).__name__}" + (f": {text}" if text else "")


def how_to_fix(error: BaseException) -> str:
    """Return what to do about an error of the job, for the end of a sentence."""
    if isinstance(error, ModuleNotFoundError):
        return "install that module in this Python environment"
    if isinstance(error, SystemExit):
        return "put the code that ends the program under `if __name__ == '__main__':`"
    if isinstance(error, OSError):
        return "check that the file and all files that it reads are readable"
    return "fix that line"


def _list_in(module: ModuleType, name: str, shown: Path) -> tuple[Any, ...]:
    given = getattr(module, name, None)
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise JobTypeError(f"{shown}: `{name}` is {type_name(given)}: make it a list in the channels' order.")
    return tuple(given)


def _one_total(total: Total) -> tuple[Total, ...]:
    return () if total is None else (total,)


def _function_at(
    entries: Sequence[TaskFunction | None], channel: int, otherwise: TaskFunction | None
) -> TaskFunction | None:
    own = entries[channel] if 0 <= channel < len(entries) else None
    return own or otherwise
