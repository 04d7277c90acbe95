"""`Client(kind="process")`: a program whose functions run in child processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.process_jobs import fork_server_of
from worker_agent import Client

PROGRAM = """
from worker_agent import Client
from my_functions import solve

client = Client(device=0, name="crash", kind="process", concurrency=2, timeout=30)
client.initial_task_function(solve)
client.start()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_passes_functions_of_its_modules_to_its_children(fleet, spawn, method):
    fleet.job("def tasks():\n    yield from range(50)\n\ndef task_function(task):\n    return None\n")
    (fleet.folder / "my_functions.py").write_text("import os\n\ndef solve(task):\n    return os.getppid()\n")
    program = PROGRAM.replace("timeout=30", f"timeout=30, start_method={method!r}")
    (fleet.folder / "program.py").write_text(program)
    fleet.serve()
    env = {"MUTITASK_REDIS_URL": fleet.redis.url}
    program = spawn(["python", fleet.folder / "program.py"], env=env, cwd=Path("/"))

    fleet.wait_until_over(50)

    (parent,) = {recorded.value for recorded in fleet.results()}
    assert parent == (program.pid if method == "spawn" else fork_server_of(program))
    program.terminate()
    assert program.wait() == 0, program


@pytest.mark.parametrize("function", ["lambda task: task", "own", "partial(solve, 1)"])
def test_a_function_that_children_cannot_import_is_refused(fleet, spawn, function):
    (fleet.folder / "my_functions.py").write_text("def solve(*tasks):\n    return tasks\n")
    program = PROGRAM.replace("(solve)", f"({function})")
    own = "from functools import partial\n\ndef own(task):\n    return task\n"
    (fleet.folder / "program.py").write_text(own + program)
    env = {"MUTITASK_REDIS_URL": fleet.redis.url}

    ended = spawn(["python", fleet.folder / "program.py"], env=env)

    assert ended.wait() == 1
    assert "TypeError: kind='process' cannot pass `" in ended.stderr or "JobTypeError: " in ended.stderr
    assert "write a job file and start `worker-agent JOB --kind process`" in ended.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("kind='fork'", "kind must be 'auto', 'thread', 'process' or 'asyncio', not 'fork'"),
     ("start_method='vfork'", "start_method must be 'forkserver' or 'spawn', not 'vfork'"),
     ("timeout=0", "timeout must be above 0 seconds, or None")],
)  # fmt: skip
def test_a_wrong_kind_or_timeout_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        eval(f"Client(0, {wrong})", {"Client": Client})


def test_replacing_processes_is_refused_in_thread_mode(spawn, tmp_path):
    (tmp_path / "job.py").write_text("def task_function(task):\n    return task\n")

    ended = spawn(["worker-agent", tmp_path / "job.py", "--max-tasks-per-child", "5"])

    assert ended.wait() == 2
    assert "worker-agent: --max-tasks-per-child needs --kind process" in ended.stderr
