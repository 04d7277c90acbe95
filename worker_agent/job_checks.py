"""Checks the functions and generators of a job, and says what to pass instead."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from worker_agent.async_calls import AsyncItems, plain
from worker_agent.protocol.errors import JobError
from worker_agent.settings import LifecycleFunction, SaveFunction, TaskFunction, is_async

PerChannel = LifecycleFunction | None | tuple[LifecycleFunction | None, ...]
"""One function for all channels, or one function or None for each."""


class JobTypeError(JobError, TypeError):
    """A value of the wrong type was passed. The message says what to pass instead."""


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
        raise JobTypeError(f"`on_allotted` is {type_name(function)}: make it a function.")
    if is_async(function):
        function = plain(function)
    if accepts(function, 3):
        return function
    if accepts(function, 2):
        return lambda count, last_item, _channel: function(count, last_item)
    raise JobTypeError(
        "`on_allotted` must take two parameters, the count and the last item, or the channel too."
    )


def check_lifecycle(given: object) -> PerChannel:
    """Return a setup or teardown function, or a list of them, if each can be called. Raises `JobTypeError`."""
    for function in given if isinstance(given, list | tuple) else [given]:
        if function is not None and not callable(function):
            raise JobTypeError(
                f"`setup` and `teardown` must be functions, or lists with one function or None for each channel; "
                f"this is {type_name(function)}."
            )
        if function is not None and not (accepts(function, 0) or accepts(function, 1)):
            raise JobTypeError(
                "`setup` and `teardown` take no parameter, or one that gets the device's number."
            )
    if callable(given):
        return given
    return tuple(given) if isinstance(given, list | tuple) else None


def as_iterators(tasks: object) -> list[Iterator[Any]]:
    """Return a list with one iterator for each channel, from such a list or a single iterator, plain or async.

    Raises `JobTypeError` that says what to pass instead.
    """
    if isinstance(tasks, Iterator | AsyncIterator):
        tasks = [tasks]
    if not isinstance(tasks, list | tuple):
        raise JobTypeError(_what_to_pass(tasks))
    if not tasks:
        raise JobTypeError("The list of generators is empty: pass one generator for each channel, [tasks()].")
    for source in tasks:
        if not isinstance(source, Iterator | AsyncIterator):
            raise JobTypeError(_what_to_pass(source))
    if len({id(source) for source in tasks}) < len(tasks):
        raise JobTypeError("The same generator is listed twice: call its function once for each channel.")
    return [source if isinstance(source, Iterator) else AsyncItems(source) for source in tasks]


def _what_to_pass(given: object) -> str:
    """Return the message about a value that is no iterator: what it is, and what to pass instead."""
    name = getattr(given, "__name__", "tasks")
    if hasattr(given, "__aiter__"):
        return f"Tasks are given as {type_name(given)}: pass an async generator, [tasks()]."
    if inspect.isroutine(given):
        return f"Tasks are given as the function `{name}`, which was not called: pass [{name}()]."
    if isinstance(given, str | bytes):
        return f"Tasks are given as {type_name(given)}: pass a generator that yields each task, [tasks()]."
    if hasattr(given, "__iter__"):
        return (
            f"Tasks are given as {type_name(given)} instead of a generator: "
            "pass [iter(...)] of it, or a generator, [tasks()]."
        )
    return (
        f"Tasks are given as {type_name(given)}: pass a list with one generator for each channel, [tasks()]."
    )


def _check_function(function: object, role: str, parameter: str) -> Callable[[Any], Any]:
    if not callable(function):
        raise JobTypeError(
            f"The {role} is {type_name(function)}: pass a function whose one parameter is {parameter}."
        )
    name = getattr(function, "__name__", type(function).__name__)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise JobTypeError(f"The {role} `{name}` yields: let it `return` instead.")
    if not accepts(function, 1):
        raise JobTypeError(
            f"The {role} `{name}{inspect.signature(function)}` cannot be called with {parameter} alone: "
            "give it exactly one parameter."
        )
    return function


def accepts(function: Callable[..., Any], arguments: int) -> bool:
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


def type_name(value: object) -> str:
    """Return the name of a value's type with its article, such as `an int`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
