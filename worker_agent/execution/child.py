"""A child process of an agent in process mode: loads the job itself and runs one task after the other.

    python -m worker_agent.execution.child TASKS ANSWERS PERMITS LIFE JOB
    python -m worker_agent.execution.child check JOB CHANNEL [--debug]    only sees whether the job can be used

The first four are inherited pipes; stdin, stdout and stderr are the task functions' own. Messages are msgpack
behind their length, 4 bytes. On TASKS: once where the functions are, then a list of items, a batch, at a time.
On ANSWERS: once `ready` or why not, then what came of each item as soon as it is known, and an empty message behind
each batch. PERMITS holds a byte for each item of the batch: `r` to run it, `x` to pass it over. Reading one byte is
atomic, so the agent, which can read there too, takes back for certain what has not begun. LIFE never says
anything; its end is the agent's end, and the child's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from worker_agent.execution import forks
from worker_agent.execution.runner import Runner, SaveFunction, TaskFunction
from worker_agent.protocol import codec

LENGTH_BYTES = 4
RUN, SKIP = b"r", b"x"
END_OF_BATCH = bytes(LENGTH_BYTES)


def frame(message: Any) -> bytes:
    """A message as it travels: its length and its msgpack."""
    packed: bytes = codec.packb(message)
    return len(packed).to_bytes(LENGTH_BYTES, "little") + packed


def name_of(function: Callable[[Any], Any]) -> str:
    """`module:qualname`, by which another process finds a function. Raises `JobTypeError` where it could not."""
    from worker_agent.job import JobTypeError

    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    if module == "__main__" or found is None or found is not function:
        shown = name or type(function).__name__
        raise JobTypeError(
            f"kind='process' cannot hand `{shown}` to other processes: define it at the top of a module of "
            "its own and import it, or write a job file and start `worker-agent JOB --kind process`"
        )
    return f"{module}:{name}"


def function_of(name: str) -> Callable[[Any], Any]:
    """The function that `name_of` named."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[[Any], Any] = found
    return function


def main() -> None:
    """Serve until the agent ends the pipe of tasks, or ends."""
    if sys.argv[1] == "check":
        sys.exit(_check(sys.argv[2], int(sys.argv[3]), debug="--debug" in sys.argv[4:]))
    tasks, answers, permits, life = (int(number) for number in sys.argv[1:5])
    for number in (tasks, answers, permits, life):
        os.set_inheritable(number, False)
    # A handler, not SIG_IGN: what a task starts by exec gets the default back.
    signal.signal(signal.SIGINT, forks.ignore)
    os.register_at_fork(after_in_child=lambda: _close(tasks, answers, permits, life))
    threading.Thread(target=_end_with_the_agent, args=(life,), name="life", daemon=True).start()
    told = codec.unpackb(_receive(tasks))
    sys.path[:] = told["path"]
    sys.argv[:] = [told["job"] or "worker_agent.execution.child"]
    try:
        task_function, save_function = _functions(told)
    except BaseException as error:
        _write(answers, frame(f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace")))
        sys.exit(2)
    _write(answers, frame(b"ready"))
    _serve(Runner(task_function, save_function, told["device"], told["channel"]), tasks, answers, permits)


def _check(job: str, channel: int, *, debug: bool) -> int:
    """Whether the job can be used: 0, or the status of the error that is told on stderr."""
    from worker_agent.job import load_job
    from worker_agent.protocol.errors import MutiTaskError
    from worker_agent.protocol.printable import printable

    try:
        load_job(job).functions_for(channel)
    except MutiTaskError as error:
        if debug:
            raise
        os.write(2, f"worker-agent: {printable(error)}\n".encode("utf-8", "backslashreplace"))
        return error.exit_status
    return 0


def _functions(told: dict[str, Any]) -> tuple[TaskFunction, SaveFunction | None]:
    if told["job"]:
        from worker_agent.job import load_job

        return load_job(told["job"]).functions_for(told["channel"])
    task, save = told["functions"]
    return function_of(task), function_of(save) if save else None


def _serve(runner: Runner, tasks: int, answers: int, permits: int) -> None:
    while message := _receive(tasks):
        ended = False
        items = codec.unpackb(message)
        for item in items:
            if _permit(permits) == SKIP:
                continue
            outcome = frame(runner.run(item))
            ended = item is items[-1]
            _write(answers, outcome + END_OF_BATCH if ended else outcome)
        if not ended:
            _write(answers, END_OF_BATCH)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    runner.close()


def _close(*pipes: int) -> None:
    """A copy that a task forks has no part in what the agent and this process say to each other."""
    for pipe in pipes:
        with contextlib.suppress(OSError):
            os.close(pipe)


def _permit(permits: int) -> bytes:
    while True:
        try:
            return os.read(permits, 1)
        except BlockingIOError:
            select.select([permits], [], [])


def _receive(tasks: int) -> bytes:
    """The next message; empty at the end."""
    head = _read(tasks, LENGTH_BYTES)
    return _read(tasks, int.from_bytes(head, "little")) if head else b""


def _read(pipe: int, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(pipe, min(count - len(parts), 1 << 20))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _write(pipe: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(pipe, view) :]


def _end_with_the_agent(life: int) -> None:
    """Wait for the agent's end; then end too, with all that the tasks started."""
    os.read(life, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
