"""The table of peers: versions, adapters, and what each can; their virtual environments are made here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("MUTITASK_BENCHMARK_PEERS", Path(__file__).with_name(".peers")))
ADAPTERS = Path(__file__).with_name("peers")
FOR_ARDIQ = (3, 12)


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer. `about` is a rate of no-ops that decides how many are run, so that slow ones do not take minutes."""

    name: str
    label: str
    packages: tuple[str, ...]
    about: int
    setting: str
    """The setting in a few words, for the table."""
    results_off: bool = True
    """Whether results can be left out."""
    batch_feed: bool = False
    """Whether it has a call that puts many tasks at once."""
    many: str = "asyncio"
    """How it runs 32 tasks at once: `threads`, `asyncio`, or '' where one worker process cannot."""
    least_python: tuple[int, int] = (3, 11)
    redis: bool = True
    at_once: int = 0
    """Tasks at once in the worker for no-ops; 0 as its adapter has it."""

    @property
    def home(self) -> Path:
        """Its virtual environment."""
        return CACHE / self.name

    @property
    def python(self) -> Path:
        """The interpreter in it."""
        return self.home / "bin" / "python"

    @property
    def adapter(self) -> Path:
        """Its adapter."""
        return ADAPTERS / f"on_{self.name}.py"


PEERS = (
    Peer("ardiq", "ArdiQ", ("ardiq==1.2.0",), 7000, "concurrency 16, prefetch 32, enqueue_many of 1,000",
         results_off=False, batch_feed=True, least_python=FOR_ARDIQ),
    Peer("huey", "Huey", ("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"), 2500, "2 threads", many="threads"),
    Peer("taskiq", "taskiq", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop==0.23.0"), 2400,
         "streams, 100 at once, reads of 100, uvloop"),
    Peer("dramatiq", "Dramatiq", ("dramatiq[redis]==2.2.1", "hiredis==3.5.0"), 2000, "1 process, 8 threads",
         many="threads"),
    Peer("saq", "SAQ", ("saq[redis,hiredis]==0.26.4", "typing_extensions==4.16.0"), 1500, "concurrency 32"),
    Peer("arq", "arq", ("arq==0.28.0", "hiredis==3.5.0"), 1200, "max_jobs 32, poll_delay 10 ms"),
    Peer("streaq", "streaQ", ("streaq==7.2.0", "uvloop==0.23.0"), 1000, "concurrency 32, uvloop, enqueue_many",
         batch_feed=True),
    Peer("celery", "Celery", ("celery[redis]==5.7.0", "hiredis==3.5.0"), 1000, "prefork, prefetch multiplier 128",
         many="threads"),
    Peer("rq", "RQ", ("rq==3.0.0", "hiredis==3.5.0"), 300, "SimpleWorker, enqueue_many of 1,000", batch_feed=True,
         many=""),
    Peer("dask", "Dask distributed", ("distributed==2026.8.0",), 2500, "1 worker of 2 threads, client.map of 1,000",
         redis=False, many="threads"),
)  # fmt: skip

FASTER = (
    Peer("ardiq", "ArdiQ, concurrency 64", ("ardiq==1.2.0",), 9000, "as ArdiQ, with four times the tasks at once",
         results_off=False, batch_feed=True, least_python=FOR_ARDIQ, at_once=64),
)  # fmt: skip
"""Settings that no documentation recommends and that were found to be faster on no-ops: measured there beside it."""

CHART = Peer("chart", "the chart", ("matplotlib==3.11.2",), 0, "", redis=False)


def interpreter(least: tuple[int, int]) -> str | None:
    """A Python of at least that version on this machine, the running one first; None where there is none."""
    here = sys.version_info[:2]
    if here >= least:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(14, least[1] - 1, -1)]
    places = [
        *map(shutil.which, names),
        *sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))[::-1],
    ]
    code = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {least})"
    for place in places:
        if place and subprocess.run([place, "-c", code], capture_output=True).returncode == 0:
            return place
    return None


def install(peer: Peer) -> str:
    """Make its environment unless it is there; why it cannot be had, or ''."""
    mark = hashlib.sha256(" ".join(peer.packages).encode()).hexdigest()
    note = peer.home / "installed"
    if note.exists() and note.read_text() == mark and peer.python.exists():
        return ""
    python = interpreter(peer.least_python)
    if python is None:
        wanted = ".".join(map(str, peer.least_python))
        return f"needs Python {wanted} or newer, and none was found on this machine"
    shutil.rmtree(peer.home, ignore_errors=True)
    print(f"installing {peer.label}", file=sys.stderr)
    for command in (
        [python, "-m", "venv", str(peer.home)],
        [str(peer.python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *peer.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"could not be installed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done}"
    note.write_text(mark)
    return ""


def versions(peer: Peer) -> dict[str, str]:
    """What is installed in its environment, and its Python."""
    told = subprocess.run(
        [str(peer.python), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    python = subprocess.run([str(peer.python), "-V"], capture_output=True, text=True, check=True)
    return {
        "python": python.stdout.split()[1],
        **{row["name"]: row["version"] for row in json.loads(told.stdout)},
    }
