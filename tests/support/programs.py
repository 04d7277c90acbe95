"""Start programs for a test: with their output in files, or in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pexpect

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def command_line(args: Sequence[str | Path]) -> list[str]:
    """Return `args` with the programs of this environment: `python`, `mutitask`, `worker-agent`."""
    program, *rest = (str(arg) for arg in args)
    if program == "python":
        program = sys.executable
    elif (BIN / program).exists():
        program = str(BIN / program)
    return [program, *rest]


def environment(extra: Mapping[str, str | Path] | None = None) -> dict[str, str]:
    """Return this process's environment with unbuffered output, a fixed terminal size and `extra`."""
    base = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120", "LINES": "40", "TERM": "xterm-256color"}
    base.pop("PYTEST_CURRENT_TEST", None)
    base["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), base.get("PYTHONPATH"))))
    return base | {key: str(value) for key, value in (extra or {}).items()}


class Program:
    """A started program in a session of its own; stdout and stderr go to files."""

    def __init__(
        self,
        args: Sequence[str | Path],
        env: Mapping[str, str | Path] | None,
        directory: Path,
        cwd: Path | None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.args = command_line(args)
        self.stdout_path = directory / "stdout"
        self.stderr_path = directory / "stderr"
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process = subprocess.Popen(
                self.args,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What the program has written to stdout."""
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What the program has written to stderr."""
        return self.stderr_path.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end and return the exit status. Fails with the program's output if it does not end in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s: {self}") from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill_session(self) -> None:
        """Kill the program and all other processes in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)

    def __repr__(self) -> str:
        return f"{' '.join(self.args)}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def start_in_terminal(
    args: Sequence[str | Path],
    env: Mapping[str, str | Path] | None = None,
    *,
    cwd: Path | None = None,
    size: tuple[int, int] = (40, 120),
    timeout: float = 30.0,
) -> pexpect.spawn[str]:
    """Start a program under a pseudo-terminal of `size` (rows, columns)."""
    program, *rest = command_line(args)
    return pexpect.spawn(
        program,
        rest,
        env=environment(env),  # type: ignore[arg-type]
        cwd=str(cwd) if cwd else None,
        dimensions=size,
        timeout=timeout,
        encoding="utf-8",
        codec_errors="replace",
        use_poll=True,
    )
