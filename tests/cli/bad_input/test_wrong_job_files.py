"""Job files that cannot be used."""

# ruff: noqa: E501 (each sentence is on one line, so that it can be searched for)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bad_input.rows import Row, Servers, expect_refusal
from tests.support.programs import Program

PLAIN = "def tasks(): yield 1\ndef task_function(t): return t\n"
POLICY = "from worker_agent import Retry\n" + PLAIN

ROWS = [
    Row(
        "a policy with a bad value",
        "mutitask run {job}",
        2,
        r"job\.py cannot be loaded, line 4, ValueError: times of Retry must be a whole number from 0 to 98, not 100: fix that line\.",
        POLICY + "retry = Retry(times=100)\n",
    ),
    Row(
        "a policy that is a number",
        "mutitask run {job}",
        2,
        r"job\.py: `retry` must be Retry\(\.\.\.\), or a list with a Retry or None for each channel, not 3",
        PLAIN + "retry = 3\n",
    ),
    Row(
        "more policies than channels",
        "mutitask run {job}",
        2,
        r"job\.py: `retry` lists 2 entries for 1 channel: list one for each",
        POLICY + "retry = [Retry(), Retry()]\n",
    ),
    Row(
        "a rate that cannot be read",
        "mutitask run {job}",
        2,
        r"job\.py: a rate is a number of tasks per s, min or h, such as 10/s, 0\.5/s or 90/min, not 'ten'",
        PLAIN + "rates = ['ten']\n",
    ),
    Row(
        "more rates than channels",
        "mutitask run {job}",
        2,
        r"job\.py: `rates` lists 2 entries for 1 channel: list one for each",
        PLAIN + "rates = ['1/s', None]\n",
    ),
    Row(
        "a number as the rate",
        "mutitask run {job}",
        2,
        r"job\.py: `rates` must be text such as '10/s', or a list with such a text or None for each channel, not 10",
        PLAIN + "rates = 10\n",
    ),
    Row(
        "job missing",
        "mutitask run nowhere.py",
        2,
        r"nowhere\.py cannot be read \(No such file or directory\): name a job file, such as job\.py\.",
        process=True,
    ),
    Row("job is a directory", "mutitask run .", 2, r"\. is a directory: name a job file, such as job\.py\."),
    Row(
        "job is not a .py file",
        "mutitask run {text}",
        2,
        r"notes\.txt is not a Python file: a job file's name ends in \.py\.",
    ),
    Row(
        "job with a syntax error",
        "mutitask run {job}",
        2,
        r"job\.py cannot be loaded, line 2, SyntaxError: .*: fix that line\.",
        "\ndef tasks(:\n",
        process=True,
    ),
    Row(
        "job that raises",
        "mutitask run {job}",
        2,
        r"job\.py cannot be loaded, line 2, ZeroDivisionError: division by zero: fix that line\.",
        "\n1 / 0\n",
        process=True,
    ),
    Row(
        "job that exits",
        "mutitask run {job}",
        2,
        r"cannot be loaded, line 2, SystemExit: .*: put the code that ends the program under `if __name__ == '__main__':`\.",
        "\nraise SystemExit('bye')\n",
    ),
    Row(
        "job imports a missing module",
        "mutitask run {job}",
        2,
        r"ModuleNotFoundError: No module named 'nosuchmodule': install that module in this Python environment\.",
        "import nosuchmodule\n",
    ),
    Row(
        "no tasks",
        "mutitask run {job}",
        2,
        r"job\.py has no `tasks`: add a generator function, `def tasks\(\): \.\.\.`, that yields each task\.",
        "def task_function(t): return t\n",
    ),
    Row(
        "no task_function",
        "mutitask run {job}",
        2,
        r"job\.py has no `task_function`: add `def task_function\(task\): \.\.\.`, which returns the task's result\.",
        "def tasks(): yield 1\n",
    ),
    Row(
        "tasks is a string",
        "mutitask run {job}",
        2,
        r"Tasks are given as a str: pass a generator that yields each task, \[tasks\(\)\]\.",
        "tasks = 'abc'\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is a list of values",
        "mutitask run {job}",
        2,
        r"Tasks are given as an int: pass a list with one generator for each channel, \[tasks\(\)\]\.",
        "tasks = [1, 2, 3]\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is empty",
        "mutitask run {job}",
        2,
        r"The list of generators is empty: pass one generator for each channel, \[tasks\(\)\]\.",
        "tasks = []\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks is a range",
        "mutitask run {job}",
        2,
        r"Tasks are given as a range instead of a generator: pass \[iter\(\.\.\.\)\] of it, or a generator, \[tasks\(\)\]\.",
        "tasks = range(5)\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks has a parameter",
        "mutitask run {job}",
        2,
        r"`tasks` has a parameter: pass a generator function without parameters, or call it, `tasks\(\.\.\.\)`\.",
        "def tasks(n): yield n\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks returns a list",
        "mutitask run {job}",
        2,
        r"`tasks\(\)` returned a list, not an iterator: let it `yield` each task\.",
        "def tasks(): return [1]\ndef task_function(t): return t\n",
    ),
    Row(
        "tasks raises when called",
        "mutitask run {job}",
        2,
        r"calling `tasks` failed, line 2, RuntimeError: no list\.",
        "def tasks():\n  raise RuntimeError('no list')\ndef task_function(t): return t\n",
    ),
    Row(
        "the same generator twice",
        "mutitask run {job}",
        2,
        r"The same generator is listed twice: call its function once for each channel\.",
        "def t():\n  yield 1\ng = t()\ntasks = [g, g]\ndef task_function(t): return t\n",
    ),
    Row(
        "fewer functions than channels",
        "mutitask run {job}",
        2,
        r"has 2 generators and 1 task functions: put one for each generator into `task_functions`, or define one `task_function` for all\.",
        "def t():\n  yield 1\ntasks = [t, t]\ntask_functions = [lambda t: t]\n",
    ),
    Row(
        "task function without a parameter",
        "mutitask run {job}",
        2,
        r"The task function `task_function\(.*\)` cannot be called with the task alone: give it exactly one parameter\.",
        "def tasks(): yield 1\ndef task_function(): return 1\n",
    ),
    Row(
        "task function with two parameters",
        "worker-agent {job}",
        2,
        r"The task function `task_function\(.*\)` cannot be called with the task alone: give it exactly one parameter\.",
        "def task_function(a, b): return 1\n",
        process=True,
    ),
    Row(
        "save function with two parameters",
        "worker-agent {job}",
        2,
        r"The save function `save_function\(a, b\)` cannot be called with the result alone: give it exactly one parameter\.",
        "def task_function(a): return 1\ndef save_function(a, b): pass\n",
        process=True,
    ),
    Row(
        "no function for the channel",
        "worker-agent {job} --channel 3",
        2,
        r"has no task function for channel 3: its `task_functions` lists only 1\.",
        "task_functions = [lambda t: t]\n",
        process=True,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_wrong_job_file_ends_with_its_sentence_and_status(
    row: Row, servers: Servers, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    expect_refusal(row, servers, spawn, tmp_path)
