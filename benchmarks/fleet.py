"""A thousand devices: `python -m benchmarks.fleet --devices 1000 --seconds 20`.

A real server feeds simulated agents (`benchmarks/simulated.py`) while the real dashboard is watched on a
pseudo-terminal of 200x60. Prints what a snapshot costs, the dashboard's CPU at four snapshots a second, the time from
a key to the bytes that show it, and the time from `pause_all` to the last device that obeyed. It fails on a broken
run, never on a time. Everything shares this machine's cores; the simulated agents, which are on other machines in real
life, give way. With `--apart` the dashboard and its terminal have a core of their own, as on the machine of whoever
attaches, and Valkey and the server another.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.dashboard import Watched
from benchmarks.figures import percentile
from benchmarks.simulated import forget_groups
from mutitask_tui.embedded import valkey as embedded
from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import find
from mutitask_tui.server.reader import Reader
from mutitask_tui.server.snapshot import Snapshot
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE

NAME = "fleet"
JOB = """\
def tasks():
    number = 0
    while True:
        yield number
        number += 1

def task_function(task):
    return task
"""
A_PROCESS = 250
"""Simulated agents in one process."""
A_BATCH = 50
"""The most that one of them claims."""


def keep_to(pid: int, core: int) -> None:
    """Let all threads of a process run on that core alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Fleet:
    """The server and the simulated agents, as processes."""

    def __init__(self, url: str, directory: Path, devices: int, rate: int, eager: bool) -> None:
        self.url, self.devices, self.rate, self.eager = url, devices, rate, eager
        self.reader = Reader(url, NAME)
        self._environment = {**os.environ, REDIS_URL_VARIABLE: url}
        self._job = directory / "job.py"
        self._job.write_text(JOB)
        self._log = (directory / "log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.server = self._start(
            Path(sys.executable).with_name("mutitask"), "run", self._job, "--name", NAME, "--headless",
            "--devices", devices, "--lease", 60, "--capacity", 60 * devices,
        )  # fmt: skip

    def _start(self, *words: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*map(str, words)],
            env=self._environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            # As if on machines of their own: in one session with the terminal's reader they would hold it up.
            start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def join(self, first: int, count: int) -> None:
        """Let so many devices join, and wait until they have reported."""
        task_ms = 1000 * self.devices / self.rate
        for start in range(first, first + count, A_PROCESS):
            here = min(A_PROCESS, first + count - start)
            self._start(
                sys.executable, "-m", "benchmarks.simulated", "--name", NAME, "--first", start, "--count", here,
                "--task-ms", task_ms, "--batch", A_BATCH, *(["--eager"] if self.eager else []),
            )  # fmt: skip
        self.until(lambda s: sum(d.state != "offline" for d in s.devices) >= first + count, 40)

    def until(self, holds: Callable[[Snapshot], object], seconds: float) -> Snapshot:
        """Wait for a snapshot that holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(Exception):
                snapshot = self.reader.snapshot()
                if holds(snapshot):
                    return snapshot
            time.sleep(0.01)
        raise SystemExit(f"broken run: not within {seconds:g} s; see {self._log.name}")

    def check(self) -> None:
        """None of them may have ended."""
        for process in self._processes:
            if process.poll() is not None:
                raise SystemExit(f"broken run: {process.args} ended with {process.returncode}: {self.log()}")

    def log(self) -> str:
        """The last that they printed."""
        return Path(self._log.name).read_text(errors="replace")[-2000:]

    def rate_now(self, seconds: float) -> float:
        """Tasks a second."""
        before, began = self.done(), time.monotonic()
        time.sleep(seconds)
        return (self.done() - before) / (time.monotonic() - began)

    def done(self) -> int:
        """How many tasks are done by now."""
        return sum(channel.done for channel in self.reader.snapshot().channels)

    def simulating_s(self) -> float:
        """The CPU time that the simulated agents have used, in seconds."""
        return sum(cpu_s(process.pid) for process in self._processes if process is not self.server)

    def end(self) -> None:
        """End them all."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        forget_groups()


def obeying(fleet: Fleet, command: str, state: str) -> float:
    """Seconds from asking to the last device that obeyed."""
    commander = Commander(fleet.url, NAME)
    commander.reader.channels()
    began = time.perf_counter()
    commander.run(find(command), ())
    fleet.until(lambda s: all(d.state in (state, "offline") for d in s.devices), 30)
    return time.perf_counter() - began


def snapshots(fleet: Fleet, count: int) -> tuple[list[float], int]:
    """How long snapshots take, in ms, and the bytes of one."""
    reader = Reader(fleet.url, NAME)
    reader.snapshot()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        reader.snapshot()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.05)
    return times, _sent(reader) // (count + 2)


def _sent(reader: Reader) -> int:
    """The bytes that Valkey sent to this reader; 0 where it does not count them."""
    told: object = reader.client.execute_command("CLIENT", "INFO")  # type: ignore[no-untyped-call]
    text = told.decode() if isinstance(told, bytes) else str(told)
    fields = dict(word.partition("=")[::2] for word in text.split())
    return int(fields.get("tot-net-out", 0))


@contextlib.contextmanager
def fleet_of(devices: int, rate: int, *, eager: bool = False) -> Iterator[Fleet]:
    """A Valkey, a server and a directory, gone at the end. The simulated agents give way, or are `eager`."""
    with (
        tempfile.TemporaryDirectory(prefix="mutitask-fleet-") as directory,
        embedded.ensure(NAME, throwaway=True) as own,
    ):
        fleet = Fleet(own.url, Path(directory), devices, rate, eager)
        try:
            yield fleet
        except BaseException:
            print(fleet.log(), file=sys.stderr)
            raise
        finally:
            fleet.end()


def measure(devices: int, seconds: float, rate: int, keys: int, apart: bool) -> None:
    """All of it. With `apart` the dashboard and its terminal have the first core, Valkey and the server the last."""
    cores = sorted(os.sched_getaffinity(0))
    if apart and len(cores) < 2:
        raise SystemExit("--apart needs two cores")
    with fleet_of(devices, rate) as fleet:
        fleet.until(lambda s: s.server is not None, 20)
        if apart:
            valkey: Any = fleet.reader.client.info("server")
            keep_to(valkey["process_id"], cores[-1])
            keep_to(fleet.server.pid, cores[-1])
        few = min(200, devices)
        for number in dict.fromkeys((few, devices)):
            fleet.join(0 if number == few else few, number if number == few else devices - few)
            obeying(fleet, "start_all", "running")
            time.sleep(2)
            paused = [obeying(fleet, "pause_all", "paused")]
            for _ in range(2):
                obeying(fleet, "start_all", "running")
                time.sleep(0.5)
                paused.append(obeying(fleet, "pause_all", "paused"))
            row(f"pause_all, {number:,} devices, asked to last obeyed", f"{statistics.median(paused) * 1000:,.0f} ms",
                f"of 3: {', '.join(f'{p * 1000:,.0f}' for p in paused)}")  # fmt: skip
        obeying(fleet, "start_all", "running")
        time.sleep(2)
        times, sent = snapshots(fleet, 20)
        middle = statistics.median(times)
        row("snapshot", f"{middle:.1f} ms", f"p95 {percentile(times, 0.95):.1f} ms, {sent:,} bytes")
        if apart:
            keep_to(os.getpid(), cores[0])
        with Watched(fleet.url, NAME, refresh=max(0.1, 0.25 - middle / 1000)) as view:
            view.until_shown(b"Device0")
            view.rest(2)
            cpu, feeding, simulating = cpu_s(view.pid), cpu_s(fleet.server.pid), fleet.simulating_s()
            began = time.monotonic()
            done = fleet.done()
            view.rest(seconds)
            took = time.monotonic() - began
            row("tasks settled", f"{(fleet.done() - done) / took:,.0f}/s", f"asked for {rate:,}/s")
            drawn = f"{view.frames / took:.1f} redraws/s, {view.bytes_read / took / 1000:,.0f} kB/s drawn"
            used = (cpu_s(view.pid) - cpu) / took
            row("dashboard's CPU, 200x60, 4 snapshots/s", f"{used:.1%} of a core", drawn)
            row("server's CPU", f"{(cpu_s(fleet.server.pid) - feeding) / took:.1%} of a core", "")
            row("simulated agents' CPU", f"{(fleet.simulating_s() - simulating) / took:.1%} of a core", "")
            for label, pressed in (("cursor", view.move), ("typing", view.type)):
                waits = [1000 * pressed(number) for number in range(keys)]
                row(f"key to paint, {label}", f"p50 {percentile(waits, 0.5):.1f} ms",
                    f"p99 {percentile(waits, 0.99):.1f} ms, most {max(waits):.1f} ms, {len(waits)} keys")  # fmt: skip


def row(label: str, figure: str, more: str) -> None:
    """One line of the answer."""
    print(f"{label:50} {figure:>20}   {more}", flush=True)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--devices", type=int, default=1000)
    options.add_argument(
        "--seconds", type=float, default=20.0, help="how long the dashboard's CPU is watched"
    )
    options.add_argument("--rate", type=int, default=50_000, help="tasks a second to aim at")
    options.add_argument("--keys", type=int, default=200, help="keys to press of each kind")
    options.add_argument(
        "--apart", action="store_true", help="a core for the dashboard, another for the rest"
    )
    options.add_argument("--short", action="store_true", help="5 seconds and 60 keys")
    options.add_argument("--limit", type=int, default=115, help="give up after so many seconds")
    chosen = options.parse_args()
    signal.alarm(chosen.limit)
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("broken run: out of time"))
    seconds, keys = (5.0, 60) if chosen.short else (chosen.seconds, chosen.keys)
    busy = f"{os.getloadavg()[0]:.1f} others' load"
    print(f"{chosen.devices:,} devices, {os.cpu_count()} cores, {busy}, {time.strftime('%Y-%m-%d')}\n")
    measure(chosen.devices, seconds, chosen.rate, keys, chosen.apart)


if __name__ == "__main__":
    main()
