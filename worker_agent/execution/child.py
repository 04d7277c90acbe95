"""The program of a child process: loads the job and runs one task after the other.

    python -m worker_agent.execution.child TASKS ANSWERS PERMITS LIFE JOB
    python -m worker_agent.execution.child check JOB CHANNELS WEIGHTS [--debug]    checks whether the job can be used

`check` writes the job's weights to the inherited pipe WEIGHTS.

The first four arguments are inherited pipes. A copy of the fork server gets the same pipes, but no setup: it holds the
functions already. Stdin, stdout and stderr belong to the task functions. A message is its length in 4 bytes, then
msgpack.

- TASKS brings one message with the setup (where the functions are), then one message with list items and their
  channels for each batch.
- ANSWERS takes one message: `ready`, or why the functions could not be loaded or set up. Then it takes the outcome of
  each item as soon as it is known, and an empty message after each batch. Between them it takes what running tasks say
  (`child_registry.py`): their progress and their lines, and what MutiTask itself logs (`child_log.py`).
- PERMITS holds one byte for each item of the batch: `r` to run it, `x` to skip it. The child takes the byte before it
  starts the item. The agent can read there too, and reading one byte is atomic. So the agent can take back any item
  that has not started.
- LIFE never carries data. It ends when the agent ends, and then the child ends too.
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
from typing import Any, NamedTuple

from worker_agent.console.log import log_to_stderr
from worker_agent.execution import forks, task_lines
from worker_agent.execution.answers import Answers
from worker_agent.execution.child_log import logging_to_agent
from worker_agent.execution.child_registry import ChildRegistry
from worker_agent.execution.current_task import add_registry
from worker_agent.execution.lifecycle import Lifecycle
from worker_agent.execution.runner import Runner
from worker_agent.protocol import codec
from worker_agent.protocol.served_channels import Served, parse_served
from worker_agent.settings import Functions, LifecycleFunctions, SaveFunction, TaskFunction

LENGTH_BYTES = 4
LARGE_BYTES = 256 * 1024
"""From this size on, what an outcome carries is written without a copy."""
READY, READY_WITH_TEARDOWN = b"ready", b"ready, and takes time to end"
"""What a child answers once it can run tasks."""
RUN, SKIP = b"r", b"x"
END_OF_BATCH = bytes(LENGTH_BYTES)


def frame(message: Any) -> bytes:
    """Return a message as bytes: its length, then its msgpack."""
    packed: bytes = codec.packb(message)
    return len(packed).to_bytes(LENGTH_BYTES, "little") + packed


def _outcome_frames(outcome: tuple[bytes, bytes]) -> list[bytes]:
    """Return an outcome as a message, in parts. A large result is a part of its own, which is not copied."""
    kind, carried = outcome
    if len(carried) < LARGE_BYTES:
        return [frame(outcome)]
    # An array of two: the kind, and a binary with a length of four bytes.
    head = b"\x92" + codec.packb(kind) + b"\xc6" + len(carried).to_bytes(4, "big")
    return [(len(head) + len(carried)).to_bytes(LENGTH_BYTES, "little") + head, carried]


def import_name(function: Callable[[Any], Any]) -> str:
    """Return `module:qualname`, with which another process can import the function.

    Raises `JobTypeError` if it could not.
    """
    from worker_agent.job_checks import JobTypeError

    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    if module == "__main__" or found is None or found is not function:
        shown = name or type(function).__name__
        raise JobTypeError(
            f"kind='process' cannot pass `{shown}` to child processes: define it at the top level of a module "
            "and import it, or write a job file and start `worker-agent JOB --kind process`"
        )
    return f"{module}:{name}"


def import_function(name: str) -> Callable[[Any], Any]:
    """Return the function that has this `import_name`."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[[Any], Any] = found
    return function


class Pipes(NamedTuple):
    """The descriptors that a child has from its agent, in the order of its arguments."""

    tasks: int
    answers: int
    permits: int
    life: int


def main() -> None:
    """Run tasks until the agent closes the pipe of tasks, or ends."""
    if sys.argv[1] == "check":
        sys.exit(
            _check(sys.argv[2], parse_served(sys.argv[3]), int(sys.argv[4]), debug="--debug" in sys.argv[5:])
        )
    pipes = Pipes(*(int(number) for number in sys.argv[1:5]))
    _attend(pipes)
    setup = codec.unpackb(_receive(pipes.tasks))
    prepare_import(setup)
    _serve(pipes, lambda: load_functions(setup), setup)


def main_of_copy(pipes: Pipes, functions: JobFunctions, setup: dict[str, Any]) -> None:
    """Do the same in a copy of the fork server, which has loaded the functions."""
    _attend(pipes)
    _serve(pipes, lambda: functions, setup)


def _attend(pipes: Pipes) -> None:
    """Keep the pipes to this process, and end with the agent."""
    for number in pipes:
        os.set_inheritable(number, False)
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN):
        # A handler, not SIG_IGN: a program that a task starts by exec gets the default again.
        signal.signal(signal.SIGINT, forks.ignore)
    os.register_at_fork(after_in_child=lambda: _close(*pipes))
    threading.Thread(target=_end_with_agent, args=(pipes.life,), name="life", daemon=True).start()


def _serve(pipes: Pipes, load: Callable[[], JobFunctions], setup: dict[str, Any]) -> None:
    """Set the job up, tell the agent whether it can be used, run the agent's tasks, and tear the job down."""
    log_to_stderr()
    answers = Answers(pipes.answers)
    try:
        functions = load()
        task_lines.capture_logging()
        ready = READY_WITH_TEARDOWN if functions.has_teardown else READY
        if setup["kind"] == "asyncio":
            _run_loop(pipes.tasks, answers, functions, setup, ready)
            return
        registry = ChildRegistry(lambda message: answers.write(frame(message)), setup["timeout"])
        add_registry(registry)
        lifecycle = Lifecycle(functions.lifecycle, setup["device"])

        def functions_of(channel: int) -> tuple[TaskFunction, SaveFunction | None]:
            lifecycle.enter([channel], runner.run_coroutine)
            return functions.functions(channel)

        runner = Runner(functions_of, setup["device"])
        lifecycle.enter(setup["channels"], runner.run_coroutine)
    except BaseException as error:
        answers.write(frame(describe_error(error).encode("utf-8", "replace")))
        sys.exit(2)
    answers.write(frame(ready))
    with logging_to_agent(lambda message: answers.write(frame(message))):
        _run_batches(runner, registry, pipes.tasks, answers, pipes.permits)
    lifecycle.leave(runner.run_coroutine)
    runner.close()


def _run_loop(
    tasks: int, answers: Answers, functions: JobFunctions, setup: dict[str, Any], ready: bytes
) -> None:
    """Run the agent's tasks on an event loop."""
    from worker_agent.execution import loop_child

    loop_child.run(
        functions.functions, functions.lifecycle, setup, ready,
        lambda: _receive(tasks), lambda message: answers.write(frame(message)),
    )  # fmt: skip


def describe_error(error: BaseException) -> str:
    """Return why the functions cannot be used, for the agent's log."""
    return f"{type(error).__name__}: {error}"[:500]


def prepare_import(setup: dict[str, Any]) -> None:
    """Let the job find its modules, and its own name as the program's. Take what its tasks print, if that is wanted."""
    sys.path[:] = setup["path"]
    sys.argv[:] = [setup["job"] or "worker_agent.execution.child"]
    if setup["capture"]:
        task_lines.capture_streams()


def _check(job: str, served: Served, pipe: int, *, debug: bool) -> int:
    """Write the job's weights to the pipe, and return 0 if the job can be used.

    Otherwise print the error on stderr, and return its exit status.
    """
    from worker_agent.console.log_format import is_json, json_line
    from worker_agent.job import load_job
    from worker_agent.protocol.errors import MutiTaskError
    from worker_agent.protocol.printable import printable

    try:
        loaded = load_job(job)
        loaded.check_functions(served)
        os.write(pipe, codec.packb(loaded.weights))
    except MutiTaskError as error:
        if debug:
            raise
        text = f"worker-agent: {error}"
        line = json_line("error", text) if is_json() else printable(text)
        os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))
        return error.exit_status
    return 0


class JobFunctions(NamedTuple):
    """What a child needs of a job."""

    functions: Functions
    lifecycle: LifecycleFunctions
    has_teardown: bool


def load_functions(setup: dict[str, Any]) -> JobFunctions:
    """Load the job, or import the functions of a program. Raises whatever they raise."""
    if setup["job"]:
        from worker_agent.job import load_job

        job = load_job(setup["job"])
        return JobFunctions(job.functions_for, job.lifecycle_for, job.teardowns is not None)
    task, *others = setup["function_names"]
    task_function = import_function(task)
    save, begin, end = (import_function(name) if name else None for name in others)
    return JobFunctions(
        lambda _channel: (task_function, save), lambda _channel: (begin, end), end is not None
    )


def _run_batches(runner: Runner, registry: ChildRegistry, tasks: int, answers: Answers, permits: int) -> None:
    while message := _receive(tasks):
        ended = False
        items = codec.unpackb(message)
        last = len(items) - 1
        for place, (item, channel) in enumerate(items):
            if _take_permit(permits) == SKIP:
                continue
            registry.start(item)
            frames = _outcome_frames(runner.run(item, channel))
            registry.stop(item)
            ended = place == last
            if ended:
                frames[-1:] = [frames[-1] + END_OF_BATCH] if len(frames) == 1 else [frames[-1], END_OF_BATCH]
            answers.write(*frames)
        if not ended:
            answers.write(END_OF_BATCH)
        flush_streams()


def flush_streams() -> None:
    """Write what tasks have printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _close(*pipes: int) -> None:
    """Close the pipes in a process that a task forks: they belong to this process and its agent."""
    for pipe in pipes:
        with contextlib.suppress(OSError):
            os.close(pipe)


def _take_permit(permits: int) -> bytes:
    while True:
        try:
            return os.read(permits, 1)
        except BlockingIOError:
            select.select([permits], [], [])


def _receive(tasks: int) -> bytes | bytearray:
    """Return the next message, or b'' at the end of the pipe."""
    length = _read(tasks, LENGTH_BYTES)
    return _read(tasks, int.from_bytes(length, "little")) if length else b""


def _read(pipe: int, count: int) -> bytes | bytearray:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(pipe, min(count - len(parts), 1 << 20))
        if not part:
            return b""
        parts += part
    return parts


def _end_with_agent(life: int) -> None:
    """Wait until the agent ends, then kill this process and all processes that its tasks started."""
    os.read(life, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
