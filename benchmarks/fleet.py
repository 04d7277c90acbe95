"""Measures the dashboard with a thousand devices: `python -m benchmarks.fleet --devices 1000 --seconds 20`.

A real server feeds simulated agents (`benchmarks/simulated.py`), and the real dashboard runs on a pseudo-terminal of
200x60. The benchmark prints the cost of a snapshot, the dashboard's CPU at four snapshots per second, the time from a
key to the output that shows it, and the time from `pause_all` until the last device is paused. It fails if a run is
broken, but never because a time is long.

All processes share the cores of this machine. The simulated agents have a low priority, because real agents run on
other machines. With `--apart` the dashboard and its terminal get the first core, as on the machine of a viewer, and
Valkey and the server get the last core.
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

from benchmarks.dashboard import WatchedDashboard
from benchmarks.figures import percentile
from benchmarks.simulated import remove_groups
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
AGENTS_PER_PROCESS = 250
"""How many simulated agents one process runs."""
BATCH = 50
"""The most tasks that a simulated agent claims at once."""


def pin_to_core(pid: int, core: int) -> None:
    """Let all threads of a process run on this core only."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Fleet:
    """The processes of the server and the simulated agents."""

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
            # A separate session, like on another machine. In one session they would delay the reader of the terminal.
            start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def add_devices(self, first: int, count: int) -> None:
        """Start the agents of `count` devices from number `first`, and wait for their first heartbeat."""
        task_ms = 1000 * self.devices / self.rate
        for start in range(first, first + count, AGENTS_PER_PROCESS):
            agents = min(AGENTS_PER_PROCESS, first + count - start)
            self._start(
                sys.executable, "-m", "benchmarks.simulated", "--name", NAME, "--first", start, "--count", agents,
                "--task-ms", task_ms, "--batch", BATCH, *(["--eager"] if self.eager else []),
            )  # fmt: skip
        self.wait_for(lambda s: sum(d.state != "offline" for d in s.devices) >= first + count, 40)

    def wait_for(self, condition: Callable[[Snapshot], object], seconds: float) -> Snapshot:
        """Wait for a snapshot for which the condition is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check_processes()
            with contextlib.suppress(Exception):
                snapshot = self.reader.snapshot()
                if condition(snapshot):
                    return snapshot
            time.sleep(0.01)
        raise SystemExit(f"broken run: not within {seconds:g} s; see {self._log.name}")

    def check_processes(self) -> None:
        """Raise `SystemExit` if a process has ended."""
        for process in self._processes:
            if process.poll() is not None:
                raise SystemExit(
                    f"broken run: {process.args} ended with {process.returncode}: {self.log_tail()}"
                )

    def log_tail(self) -> str:
        """Return the last output of all processes."""
        return Path(self._log.name).read_text(errors="replace")[-2000:]

    def done(self) -> int:
        """Return how many tasks are done."""
        return sum(channel.done for channel in self.reader.snapshot().channels)

    def agents_cpu_s(self) -> float:
        """Return the CPU time that the simulated agents have used, in seconds."""
        return sum(cpu_s(process.pid) for process in self._processes if process is not self.server)

    def kill(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        remove_groups()


def seconds_until(fleet: Fleet, command: str, state: str) -> float:
    """Run a command. Return the seconds until all devices are in the state or offline."""
    commander = Commander(fleet.url, NAME)
    commander.reader.channels()
    started = time.perf_counter()
    commander.run(find(command), ())
    fleet.wait_for(lambda s: all(d.state in (state, "offline") for d in s.devices), 30)
    return time.perf_counter() - started


def time_snapshots(fleet: Fleet, count: int) -> tuple[list[float], int]:
    """Take `count` snapshots. Return their times in ms, and the mean size of one in bytes."""
    reader = Reader(fleet.url, NAME)
    reader.snapshot()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        reader.snapshot()
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.05)
    return times, _bytes_sent(reader) // (count + 2)


def _bytes_sent(reader: Reader) -> int:
    """Return the bytes that Valkey sent to this reader, or 0 if it does not count them."""
    info: object = reader.client.execute_command("CLIENT", "INFO")  # type: ignore[no-untyped-call]
    text = info.decode() if isinstance(info, bytes) else str(info)
    fields = dict(word.partition("=")[::2] for word in text.split())
    return int(fields.get("tot-net-out", 0))


@contextlib.contextmanager
def running_fleet(devices: int, rate: int, *, eager: bool = False) -> Iterator[Fleet]:
    """Start a Valkey and a server; remove them at the end. `eager` agents keep their normal priority."""
    with (
        tempfile.TemporaryDirectory(prefix="mutitask-fleet-") as directory,
        embedded.ensure(NAME, throwaway=True) as own,
    ):
        fleet = Fleet(own.url, Path(directory), devices, rate, eager)
        try:
            yield fleet
        except BaseException:
            print(fleet.log_tail(), file=sys.stderr)
            raise
        finally:
            fleet.kill()


def measure(devices: int, seconds: float, rate: int, keys: int, apart: bool) -> None:
    """Measure and print all figures."""
    cores = sorted(os.sched_getaffinity(0))
    if apart and len(cores) < 2:
        raise SystemExit("--apart needs two cores")
    with running_fleet(devices, rate) as fleet:
        fleet.wait_for(lambda s: s.server is not None, 20)
        if apart:
            valkey: Any = fleet.reader.client.info("server")
            pin_to_core(valkey["process_id"], cores[-1])
            pin_to_core(fleet.server.pid, cores[-1])
        few = min(200, devices)
        for number in dict.fromkeys((few, devices)):
            fleet.add_devices(0 if number == few else few, number if number == few else devices - few)
            seconds_until(fleet, "start_all", "running")
            time.sleep(2)
            paused = [seconds_until(fleet, "pause_all", "paused")]
            for _ in range(2):
                seconds_until(fleet, "start_all", "running")
                time.sleep(0.5)
                paused.append(seconds_until(fleet, "pause_all", "paused"))
            print_row(
                f"pause_all, {number:,} devices, until all are paused",
                f"{statistics.median(paused) * 1000:,.0f} ms",
                f"of 3: {', '.join(f'{p * 1000:,.0f}' for p in paused)}",
            )
        seconds_until(fleet, "start_all", "running")
        time.sleep(2)
        times, size = time_snapshots(fleet, 20)
        median = statistics.median(times)
        print_row("snapshot", f"{median:.1f} ms", f"p95 {percentile(times, 0.95):.1f} ms, {size:,} bytes")
        if apart:
            pin_to_core(os.getpid(), cores[0])
        with WatchedDashboard(fleet.url, NAME, refresh=max(0.1, 0.25 - median / 1000)) as view:
            view.wait_for_text(b"Device0")
            view.read_for(2)
            view_cpu, server_cpu, agents_cpu = cpu_s(view.pid), cpu_s(fleet.server.pid), fleet.agents_cpu_s()
            started = time.monotonic()
            done = fleet.done()
            view.read_for(seconds)
            took = time.monotonic() - started
            print_row("tasks settled", f"{(fleet.done() - done) / took:,.0f}/s", f"target {rate:,}/s")
            drawn = f"{view.frames / took:.1f} redraws/s, {view.bytes_read / took / 1000:,.0f} kB/s drawn"
            used = (cpu_s(view.pid) - view_cpu) / took
            print_row("dashboard's CPU, 200x60, 4 snapshots/s", f"{used:.1%} of a core", drawn)
            print_row("server's CPU", f"{(cpu_s(fleet.server.pid) - server_cpu) / took:.1%} of a core", "")
            print_row(
                "simulated agents' CPU", f"{(fleet.agents_cpu_s() - agents_cpu) / took:.1%} of a core", ""
            )
            for label, pressed in (("cursor", view.move), ("typing", view.type)):
                waits = [1000 * pressed(number) for number in range(keys)]
                print_row(
                    f"key to paint, {label}",
                    f"p50 {percentile(waits, 0.5):.1f} ms",
                    f"p99 {percentile(waits, 0.99):.1f} ms, maximum {max(waits):.1f} ms, {len(waits)} keys",
                )


def print_row(label: str, figure: str, more: str) -> None:
    """Print one line of the result."""
    print(f"{label:50} {figure:>20}   {more}", flush=True)


def main() -> None:
    """Parse the command line and measure."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--devices", type=int, default=1000)
    options.add_argument(
        "--seconds", type=float, default=20.0, help="how long the dashboard's CPU is measured"
    )
    options.add_argument("--rate", type=int, default=50_000, help="the target rate in tasks per second")
    options.add_argument("--keys", type=int, default=200, help="how many keys of each kind to press")
    options.add_argument("--apart", action="store_true", help="give the dashboard a core of its own")
    options.add_argument("--short", action="store_true", help="5 seconds and 60 keys")
    options.add_argument("--limit", type=int, default=115, help="give up after this many seconds")
    chosen = options.parse_args()
    signal.alarm(chosen.limit)
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("broken run: out of time"))
    seconds, keys = (5.0, 60) if chosen.short else (chosen.seconds, chosen.keys)
    busy = f"load of others {os.getloadavg()[0]:.1f}"
    print(f"{chosen.devices:,} devices, {os.cpu_count()} cores, {busy}, {time.strftime('%Y-%m-%d')}\n")
    measure(chosen.devices, seconds, chosen.rate, keys, chosen.apart)


if __name__ == "__main__":
    main()
