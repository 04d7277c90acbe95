"""Loads and checks the job: the user's tasks and functions, from a job file or from a program.

A job file is an ordinary Python file. It may define

    tasks            a generator function or an iterator, or a list with one of them for each channel (server only)
    task_function    solves one task; its only parameter is the task
    save_function    saves one result; without it, results wait in Redis
    task_functions, save_functions    instead, a list with one function for each channel
    weights          a list with one number for each channel: its share of the claims of an agent that serves several
    retry            `Retry(...)` for all channels, or a list with one of them for each (server only)
    rates            text such as "10/s" for all channels, or a list with one text or None for each (server only)
    total, totals    the number of tasks, or a function that counts them; only for the progress display
    on_allotted      called as on_allotted(count, last_item) after each push. A source that cannot be repeated (a queue,
                     a socket) should drop items only then. An optional third parameter gets the channel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from worker_agent.import_path import drop_shadowing_modules, reserve_for_job
from worker_agent.protocol.channel_terms import Policies, Rates, checked_policies, checked_rates
from worker_agent.protocol.errors import JobError
from worker_agent.protocol.served_channels import Served
from worker_agent.settings import SaveFunction, TaskFunction

Total = int | Callable[[], int] | None
Value = TypeVar("Value")


class JobTypeError(JobError, TypeError):
    """A value of the wrong type was passed. The message says what to pass instead."""


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

    def check_functions(self, served: Served) -> None:
        """Raise `JobError` if the job has no task function for a channel that is named; for `all`, if it has none."""
        for channel in (0,) if served is None else served:
            self.functions_for(channel)

    def _iterator_from(self, source: object) -> object:
        """Call a generator function. A job file may define the function, but a program must pass the iterator."""
        if not callable(source) or isinstance(source, Iterator):
            return source
        name = getattr(source, "__name__", "tasks")
        if not _accepts(source, 0):
            raise JobError(
                f"{self.path}: `{name}` has a parameter: "
                f"pass a generator function without parameters, or call it, `{name}(...)`."
            )
        try:
            made = source()
        except Exception as error:
            raise JobError(
                f"{self.path}: calling `{name}` failed{_error_location(error, self.path)}."
            ) from error
        if not isinstance(made, Iterator):
            raise JobTypeError(
                f"`{name}()` returned {_type_name(made)}, not an iterator: let it `yield` each task."
            )
        return made

    def _count(self, total: Total) -> int | None:
        try:
            number = total() if callable(total) else total
        except Exception as error:
            raise JobError(
                f"{self.path}: counting the tasks failed{_error_location(error, self.path)}."
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
    )
    if job.task_function is None and not any(job.task_functions):
        raise JobError(
            f"{shown} has no `task_function`: "
            "add `def task_function(task): ...`, which returns the task's result."
        )
    return job


def check_task_function(function: object) -> TaskFunction:
    """Return the function if it takes one task, or raise `JobTypeError`."""
    return _check_function(function, "task function", "the task")


def check_save_function(function: object) -> SaveFunction:
    """Return the function if it takes one result, or raise `JobTypeError`."""
    return _check_function(function, "save function", "the result")


def check_on_allotted(function: object) -> Callable[[int, Any, int], None] | None:
    """Return the function to call after each push, with three parameters. None stays None.

    Raises `JobTypeError`.
    """
    if function is None:
        return None
    if not callable(function):
        raise JobTypeError(f"`on_allotted` is {_type_name(function)}: make it a function.")
    if _accepts(function, 3):
        return function
    if _accepts(function, 2):
        return lambda count, last_item, _channel: function(count, last_item)
    raise JobTypeError(
        "`on_allotted` must take two parameters, the count and the last item, or the channel too."
    )


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


def as_iterators(tasks: object) -> list[Iterator[Any]]:
    """Return a list with one iterator for each channel, from such a list or a single iterator.

    Raises `JobTypeError` that says what to pass instead.
    """
    if isinstance(tasks, Iterator):
        return [tasks]
    if not isinstance(tasks, list | tuple):
        raise JobTypeError(_what_to_pass(tasks))
    if not tasks:
        raise JobTypeError("The list of generators is empty: pass one generator for each channel, [tasks()].")
    for source in tasks:
        if not isinstance(source, Iterator):
            raise JobTypeError(_what_to_pass(source))
    if len({id(source) for source in tasks}) < len(tasks):
        raise JobTypeError("The same generator is listed twice: call its function once for each channel.")
    return list(tasks)


def _what_to_pass(given: object) -> str:
    """Return the message about a value that is no iterator: what it is, and what to pass instead."""
    name = getattr(given, "__name__", "tasks")
    if hasattr(given, "__aiter__"):
        return f"Tasks are given as {_type_name(given)}: pass an ordinary generator, without `async`."
    if inspect.isroutine(given):
        return f"Tasks are given as the function `{name}`, which was not called: pass [{name}()]."
    if isinstance(given, str | bytes):
        return f"Tasks are given as {_type_name(given)}: pass a generator that yields each task, [tasks()]."
    if hasattr(given, "__iter__"):
        return (
            f"Tasks are given as {_type_name(given)} instead of a generator: "
            "pass [iter(...)] of it, or a generator, [tasks()]."
        )
    return (
        f"Tasks are given as {_type_name(given)}: pass a list with one generator for each channel, [tasks()]."
    )


def _check_function(function: object, role: str, parameter: str) -> Callable[[Any], Any]:
    if not callable(function):
        raise JobTypeError(
            f"The {role} is {_type_name(function)}: pass a function whose one parameter is {parameter}."
        )
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise JobTypeError(f"The {role} `{name}` yields: let it `return` instead.")
    if not _accepts(function, 1):
        raise JobTypeError(
            f"The {role} `{name}{inspect.signature(function)}` cannot be called with {parameter} alone: "
            "give it exactly one parameter."
        )
    return function


def _accepts(function: Callable[..., Any], arguments: int) -> bool:
    """Return whether a function can be called with this many arguments.

    True if it has no signature, as some built-in functions.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


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
            f"{shown} cannot be loaded{_error_location(error, file)}: {_how_to_fix(error)}."
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


def _error_location(error: BaseException, file: Path) -> str:
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


def _how_to_fix(error: BaseException) -> str:
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
        raise JobTypeError(
            f"{shown}: `{name}` is {_type_name(given)}: make it a list in the channels' order."
        )
    return tuple(given)


def _one_total(total: Total) -> tuple[Total, ...]:
    return () if total is None else (total,)


def _function_at(
    entries: Sequence[TaskFunction | None], channel: int, otherwise: TaskFunction | None
) -> TaskFunction | None:
    own = entries[channel] if 0 <= channel < len(entries) else None
    return own or otherwise


def _type_name(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
