"""The peers: versions, adapters and abilities of each, and its virtual environment."""

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
    """A task queue that MutiTask is compared with."""

    name: str
    """The name of its adapter and its virtual environment."""
    label: str
    """The name in the tables."""
    packages: tuple[str, ...]
    """Its pinned packages."""
    expected_rate: int
    """About how many no-ops it runs per second. Slow peers get fewer tasks, so that no run takes minutes."""
    setting: str
    """The setting in a few words, for the table."""
    results_off: bool = True
    """Whether it can run without results."""
    batch_feed: bool = False
    """Whether it can enqueue many tasks in one call."""
    concurrency: str = "asyncio"
    """How it runs 32 tasks at once: `threads`, `asyncio`, or '' if one worker process cannot."""
    min_python: tuple[int, int] = (3, 11)
    """The oldest Python that it supports."""
    redis: bool = True
    """Whether it uses Redis."""
    noop_concurrency: int = 0
    """How many no-ops the worker runs at once; 0 for the default of its adapter."""

    @property
    def home(self) -> Path:
        """The directory of its virtual environment."""
        return CACHE / self.name

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment."""
        return self.home / "bin" / "python"

    @property
    def adapter(self) -> Path:
        """The file of its adapter."""
        return ADAPTERS / f"on_{self.name}.py"


PEERS = (
    Peer("ardiq", "ArdiQ", ("ardiq==1.2.0",), 7000, "concurrency 16, prefetch 32, enqueue_many of 1,000",
         results_off=False, batch_feed=True, min_python=FOR_ARDIQ),
    Peer("huey", "Huey", ("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"), 2500, "2 threads", concurrency="threads"),
    Peer("taskiq", "taskiq", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop==0.23.0"), 2400,
         "streams, 100 at once, reads of 100, uvloop"),
    Peer("dramatiq", "Dramatiq", ("dramatiq[redis]==2.2.1", "hiredis==3.5.0"), 2000, "1 process, 8 threads",
         concurrency="threads"),
    Peer("saq", "SAQ", ("saq[redis,hiredis]==0.26.4", "typing_extensions==4.16.0"), 1500, "concurrency 32"),
    Peer("arq", "arq", ("arq==0.28.0", "hiredis==3.5.0"), 1200, "max_jobs 32, poll_delay 10 ms"),
    Peer("streaq", "streaQ", ("streaq==7.2.0", "uvloop==0.23.0"), 1000, "concurrency 32, uvloop, enqueue_many",
         batch_feed=True),
    Peer("celery", "Celery", ("celery[redis]==5.7.0", "hiredis==3.5.0"), 1000, "prefork, prefetch multiplier 128",
         concurrency="threads"),
    Peer("rq", "RQ", ("rq==3.0.0", "hiredis==3.5.0"), 300, "SimpleWorker, enqueue_many of 1,000", batch_feed=True,
         concurrency=""),
    Peer("dask", "Dask distributed", ("distributed==2026.8.0",), 2500, "1 worker of 2 threads, client.map of 1,000",
         redis=False, concurrency="threads"),
)  # fmt: skip

OTHER_SETTINGS = (
    Peer("ardiq", "ArdiQ, concurrency 64", ("ardiq==1.2.0",), 9000, "as ArdiQ, with four times the tasks at once",
         results_off=False, batch_feed=True, min_python=FOR_ARDIQ, noop_concurrency=64),
    Peer("ardiq", "ArdiQ, one in flight", ("ardiq==1.2.0",), 1500, "as ArdiQ, with a concurrency and a prefetch of 1",
         results_off=False, batch_feed=True, min_python=FOR_ARDIQ, noop_concurrency=1),
)  # fmt: skip
"""Settings that no documentation recommends: faster on no-ops, or like MutiTask's batch of 1. For the part `noop`."""

CHART = Peer("chart", "the chart", ("matplotlib==3.11.2",), 0, "", redis=False)


def find_python(minimum: tuple[int, int]) -> str | None:
    """Return the path of a Python of this version or newer, preferably the running one. None if there is none."""
    if sys.version_info[:2] >= minimum:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(14, minimum[1] - 1, -1)]
    candidates = [
        *map(shutil.which, names),
        *sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))[::-1],
    ]
    code = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {minimum})"
    for python in candidates:
        if python and subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
            return python
    return None


def install(peer: Peer) -> str:
    """Create the environment of a peer unless it exists. Return '', or why that is not possible."""
    digest = hashlib.sha256(" ".join(peer.packages).encode()).hexdigest()
    marker = peer.home / "installed"
    if marker.exists() and marker.read_text() == digest and peer.python.exists():
        return ""
    python = find_python(peer.min_python)
    if python is None:
        version = ".".join(map(str, peer.min_python))
        return f"needs Python {version} or newer, and none was found on this machine"
    shutil.rmtree(peer.home, ignore_errors=True)
    print(f"installing {peer.label}", file=sys.stderr)
    for command in (
        [python, "-m", "venv", str(peer.home)],
        [str(peer.python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *peer.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"could not be installed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done}"
    marker.write_text(digest)
    return ""


def versions(peer: Peer) -> dict[str, str]:
    """Return the versions of all packages in the environment of a peer, and of its Python."""
    packages = subprocess.run(
        [str(peer.python), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    python = subprocess.run([str(peer.python), "-V"], capture_output=True, text=True, check=True)
    return {
        "python": python.stdout.split()[1],
        **{row["name"]: row["version"] for row in json.loads(packages.stdout)},
    }
