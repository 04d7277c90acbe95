"""What a job file may hold, and what the messages about a wrong one say."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import textwrap
from functools import partial
from pathlib import Path

import pytest

from tests.support.programs import ROOT
from worker_agent.job import load_job
from worker_agent.job_checks import as_iterators, check_save_function, check_task_function
from worker_agent.protocol.errors import JobError


@pytest.fixture
def job_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(text: str, name: str = "job.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


SOLVE = "def task_function(task):\n    return task * 2\n"


# What a job file may hold


def test_a_generator_function_is_called_and_makes_one_channel(job_file):
    job = load_job(job_file("def tasks():\n    yield from (1, 2)\n" + SOLVE))
    [iterator] = job.iterators()
    assert list(iterator) == [1, 2]
    task_function, save_function = job.functions_for(0)
    assert task_function(21) == 42
    assert save_function is None


@pytest.mark.parametrize(
    "given",
    [
        "iter([1])",
        "(i for i in [1])",
        "lambda: iter([1])",
        "[iter([1])]",
        "(iter([1]),)",
        "[lambda: iter([1])]",
        "map(int, '1')",
    ],
)
def test_iterators_and_lists_of_iterators_are_accepted(job_file, given):
    assert [list(one) for one in load_job(job_file(f"tasks = {given}\n" + SOLVE)).iterators()] == [[1]]


def test_one_generator_function_listed_twice_makes_two_generators(job_file):
    job = load_job(job_file("def one():\n    yield 1\ntasks = [one, one]\n" + SOLVE))
    assert [list(iterator) for iterator in job.iterators()] == [[1], [1]]


def test_each_channel_can_have_functions_of_its_own(job_file):
    job = load_job(
        job_file("""
            def one():
                yield 1
            def double(task): return task * 2
            def triple(task): return task * 3
            def keep(result): pass
            tasks = [one, one, one]
            task_functions = [double, triple]
            save_functions = [None, keep]
            def task_function(task): return task
        """)
    )
    assert len(job.iterators()) == 3
    solved = [(job.functions_for(channel)[0](1), job.functions_for(channel)[1]) for channel in range(3)]
    assert [answer for answer, _ in solved] == [2, 3, 1]
    assert [save.__name__ if save else None for _, save in solved] == [None, "keep", None]


def test_siblings_of_the_job_file_can_be_imported(job_file, tmp_path):
    (tmp_path / "sibling_of_a_job.py").write_text("FACTOR = 5\n")
    job = load_job(
        job_file("from sibling_of_a_job import FACTOR\ndef task_function(task): return task * FACTOR\n")
    )
    assert job.functions_for(0)[0](2) == 10


def test_a_job_file_shadows_no_module_and_its_functions_name_their_own_module(job_file):
    import json

    job = load_job(job_file(SOLVE, "json.py"))
    assert sys.modules["json"] is json
    function = job.functions_for(0)[0]
    assert getattr(sys.modules[function.__module__], "task_function") is function  # noqa: B009


def test_code_under_main_does_not_run(job_file):
    load_job(job_file(SOLVE + "if __name__ == '__main__':\n    raise SystemExit(1)\n"))


def test_totals_are_numbers_or_functions_that_count(job_file):
    assert load_job(job_file(SOLVE)).totals == ()
    assert load_job(job_file(SOLVE + "total = 3\n")).totals == (3,)
    assert load_job(job_file(SOLVE + "def total(): return 4\n")).totals == (4,)
    assert load_job(job_file(SOLVE + "totals = [1, None, lambda: 5]\n")).totals == (1, None, 5)


def test_an_agent_needs_no_tasks_and_a_server_does(job_file):
    job = load_job(job_file(SOLVE))
    assert job.functions_for(7)[0](1) == 2
    with pytest.raises(JobError, match="has no `tasks`: add a generator function"):
        job.needs_tasks()
    with pytest.raises(JobError, match="has no `tasks`"):
        job.iterators()


# An unusable job file is described in one sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def tasks(:\n", r"cannot be loaded, line 1, SyntaxError: .*: fix that line\.$"),
        ("a = 1\nb = a / 0\n", r"line 2, ZeroDivisionError: division by zero: fix that line\.$"),
        ("import no_such_module_here\n", r"line 1, ModuleNotFoundError: .*: install that module"),
        ("\n\nraise SystemExit(3)\n", r"line 3, SystemExit: 3: put the code that ends the program under `if __name__"),
        ("def f():\n    raise KeyError\nf()\n", r"line 2, KeyError: fix"),
        ("raise ValueError('one\\ntwo')\n", r"ValueError: one: fix that line\.$"),
        ("open('/no/such/file')\n", r"line 1, FileNotFoundError: .*: check that the file"),
        ("a = 1\n", r"has no `task_function`: add `def task_function\(task\)"),
        ("task_function = 'solve'\n", r"The task function is a str: pass a function whose one parameter is the task"),
        ("def task_function(): pass\n", r"`task_function\(\)` cannot be called with the task alone"),
        ("def task_function(a, b): pass\n", r"`task_function\(a, b\)` cannot be called with the task alone"),
        ("def task_function(task): yield task\n", r"`task_function` yields: let it `return`"),
        (SOLVE + "def save_function(): pass\n", r"`save_function\(\)` cannot be called with the result alone"),
        (SOLVE + "save_functions = [1]\n", r"The save function is an int"),
        (SOLVE + "task_functions = 5\n", r"`task_functions` is an int: make it a list in the channels' order"),
        (SOLVE + "on_allotted = 5\n", r"`on_allotted` is an int: make it a function"),
    ],
)  # fmt: skip
def test_the_message_about_an_unusable_file_says_where_and_what_to_do(job_file, text, sentence):
    path = job_file(text)
    with pytest.raises(JobError, match=sentence) as caught:
        load_job(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("'abc'", "given as a str: pass a generator that yields each task"),
        ("[1, 2]", "given as an int: pass a list with one generator for each channel"),
        ("[]", "list of generators is empty"),
        ("range(3)", r"given as a range instead of a generator: pass \[iter"),
        ("[[1, 2]]", "given as a list instead of a generator"),
        ("lambda n: iter([n])", "has a parameter"),
        ("lambda: [1]", "returned a list, not an iterator: let it `yield` each task"),
        ("lambda: iter(1 / 0)", r"calling `<lambda>` failed, line 1, ZeroDivisionError"),
        ("[iter([])] * 2", "same generator is listed twice"),
        ("5", "given as an int"),
    ],
)
def test_the_message_about_tasks_that_are_no_iterators_says_what_to_pass(job_file, given, sentence):
    path = job_file(f"tasks = {given}\n" + SOLVE)
    with pytest.raises(JobError, match=sentence) as caught:
        load_job(path).iterators()
    assert str(path) in str(caught.value)


def test_too_few_functions_for_the_generators_are_refused_at_once(job_file):
    job = load_job(job_file("tasks = [iter([]), iter([])]\ndef f(task): return task\ntask_functions = [f]\n"))
    with pytest.raises(JobError, match="has 2 generators and 1 task functions"):
        job.iterators()
    with pytest.raises(JobError, match="no task function for channel 1"):
        job.functions_for(1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.py", "cannot be read"),
        (".", "is a directory"),
        ("job.txt", "is not a Python file"),
        ("a\0.py", "not a file name"),
    ],
)
def test_the_message_about_a_missing_or_wrong_file_says_why(job_file, tmp_path, name, sentence):
    job_file(SOLVE, "job.txt")
    with pytest.raises(JobError, match=sentence):
        load_job(f"{tmp_path}/{name}")


@pytest.mark.parametrize("total", ["-1", "True", "'5'", "lambda: 1 / 0"])
def test_a_total_that_is_no_count_is_refused(job_file, total):
    with pytest.raises(JobError, match=r"a total must be a whole number|counting the tasks failed"):
        load_job(job_file(SOLVE + f"total = {total}\n")).totals  # noqa: B018


# What a program may pass


def task():
    yield 1


class Pages:
    def __aiter__(self):
        raise NotImplementedError


async def pages(count):
    for number in range(count):
        yield number
        if number % 700 == 0:
            await asyncio.sleep(0)
    raise OSError("no more pages")


def test_generators_and_iterators_are_returned_unchanged():
    generator, iterator = task(), iter([2])
    assert as_iterators([generator, iterator]) == [generator, iterator]
    assert as_iterators(generator) == [generator]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (task, r"the function `task`, which was not called: pass \[task\(\)\]"),
        ([task], r"the function `task`, which was not called: pass \[task\(\)\]"),
        ("abc", "a str: pass a generator"),
        (["abc"], "a str: pass a generator"),
        ([1, 2], "an int: pass a list"),
        ([[1, 2]], r"a list instead of a generator: pass \[iter"),
        ([range(3)], "a range instead of"),
        ({"a": 1}, "a dict instead of"),
        ([Pages()], "a Pages: pass an async generator"),
        ([], "is empty"),
        (None, "a NoneType: pass a list"),
    ],
)
def test_any_other_value_is_a_type_error_that_says_what_to_pass(given, sentence):
    with pytest.raises(TypeError, match=sentence):
        as_iterators(given)


def test_async_generators_are_read_in_order_and_raise_after_their_last_item():
    (items,) = as_iterators(pages(3_000))
    seen = []

    with pytest.raises(OSError, match="no more pages"):
        for item in items:
            seen.append(item)

    assert seen == list(range(3_000))


def test_one_generator_cannot_feed_two_channels():
    generator = task()
    with pytest.raises(TypeError, match="twice"):
        as_iterators([generator, generator])


class Solver:
    def __call__(self, task):
        return task

    def method(self, task):
        return task


@pytest.mark.parametrize(
    "function",
    [
        lambda task: task,
        lambda task, times=1: task,
        lambda *tasks: tasks,
        len,
        str,
        print,
        Solver(),
        Solver().method,
        partial(pow, 2),
    ],
)
def test_anything_that_can_be_called_with_one_task_is_a_task_function(function):
    assert check_task_function(function) is function
    assert check_save_function(function) is function


@pytest.mark.parametrize(
    "function", [lambda: 1, lambda a, b: 1, lambda *, a: 1, Solver, 5, None, task(), task]
)
def test_anything_else_is_no_task_function_and_a_type_error(function):
    with pytest.raises(TypeError, match="task function"):
        check_task_function(function)


# The demo job


def test_the_demo_reports_every_file_of_the_standard_library_and_fails_on_the_broken_ones(recwarn):
    job = load_job(ROOT / "examples" / "stdlib_report.py")
    [iterator] = job.iterators()
    paths = list(iterator)
    library = Path(sysconfig.get_path("stdlib"))
    expected = {
        str(path)
        for path in library.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(library).parts)
    }
    assert len(paths) == len(expected) and set(paths) == expected
    assert job.totals == (len(paths),)
    assert paths == list(job.iterators()[0])
    solve, save = job.functions_for(0)
    assert save is None
    report = solve(str(library / "asyncio" / "queues.py"))
    assert set(report) == {"path", "bytes", "lines", "sha256", "functions", "classes"}
    assert report["functions"] > 10 and report["classes"] >= 5


def test_the_demo_counts_and_fails_as_documented(tmp_path, recwarn):
    solve, _ = load_job(ROOT / "examples" / "stdlib_report.py").functions_for(0)
    good = tmp_path / "good.py"
    good.write_bytes(b"class A:\n    async def f(self): pass\n    def g(self):\n        return '\\d' is 1\n")
    assert solve(str(good)) == {
        "path": str(good), "bytes": len(good.read_bytes()), "lines": 4, "functions": 2, "classes": 1,
        "sha256": __import__("hashlib").sha256(good.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert not recwarn.list
    for content in (b"def f(:\n", b"# coding: nonsense\n", b"x = '\xff'\n", b"a\0b", b"(" * 100_000):
        (tmp_path / "bad.py").write_bytes(content)
        with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError)):
            solve(str(tmp_path / "bad.py"))


def test_the_demo_does_not_import_mutitask(spawn):
    program = spawn(
        [
            "python",
            "-c",
            "import sys; from worker_agent.job import load_job; load_job('examples/stdlib_report.py');"
            "assert not {'textual', 'mutitask_tui'} & set(sys.modules)",
        ],
        cwd=ROOT,
    )
    assert program.wait() == 0, program
