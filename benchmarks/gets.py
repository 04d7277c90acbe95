"""Measures 20,000 GETs over one aiohttp session to a server on loopback: `python -m benchmarks.gets [--rounds N]`.

In turn: coroutines of one process without MutiTask, and tasks of one agent, both 100 at once on uvloop.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import replace

from benchmarks.measure import redis_under_test
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options
from benchmarks.processes import Workspace

SERVER = """
from aiohttp import web

async def page(request):
    return web.Response(text="page")

async def main():
    application = web.Application()
    application.router.add_get("/{number}", page)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

import asyncio, uvloop
uvloop.run(main())
"""
ALONE = """
import asyncio, sys, time
import aiohttp, uvloop
site, tasks, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def main():
    async with aiohttp.ClientSession() as session:
        numbers = iter(range(tasks))

        async def fetch():
            for number in numbers:
                async with session.get(f"{site}/{number}") as answer:
                    await answer.read()
                    assert answer.status == 200

        started = time.monotonic()
        await asyncio.gather(*(fetch() for _ in range(at_once)))
        print(tasks / (time.monotonic() - started))

uvloop.run(main())
"""


def alone(site: str, tasks: int, at_once: int) -> float:
    """Return the GETs per second of a process without MutiTask."""
    command = [sys.executable, "-c", ALONE, site, str(tasks), str(at_once)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def mutitask(site: str, tasks: int, at_once: int) -> float:
    """Return the GETs per second of one agent."""
    options = Options("", "", tasks=tasks, concurrency=at_once, kind="asyncio", function="get")
    with redis_under_test("off") as (server, url), Workspace(replace(options, url=url)) as workspace:
        (workspace.path / "site").write_text(site)
        system = MutiTask(workspace, server)
        system.add_agents()
        system.start_feed()
        system.wait_until_fed()
        started = system.resume_agents()
        # Both cores are busy: a closer look at the counters would slow down what is measured.
        while system.done_count() < tasks:
            time.sleep(0.05)
        return tasks / (time.monotonic() - started)


def main() -> None:
    """Measure in turn, and print the rates and their ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--tasks", type=int, default=20_000)
    options.add_argument("--at-once", type=int, default=100)
    chosen = options.parse_args()
    shares = []
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        site = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for _ in range(chosen.rounds):
            without = alone(site, chosen.tasks, chosen.at_once)
            with_it = mutitask(site, chosen.tasks, chosen.at_once)
            shares.append(with_it / without)
            print(f"alone {without:7,.0f}/s   MutiTask {with_it:7,.0f}/s   {shares[-1]:.2f}")
    finally:
        server.kill()
        server.wait()
    print(f"MutiTask's share of the client alone: {statistics.median(shares):.2f}")


if __name__ == "__main__":
    main()
