"""Disks that fill up under load and are freed again: under the embedded Valkey, and under a save function."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.network import expect_running
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import NAME, Fleet, Recorded, wait_for_text, write_job
from tests.support.programs import Program
from tests.support.redis_server import RealServer, give_own_port
from tests.support.small_disk import SmallDisk, disks_allowed
from tests.support.waiting import wait_until
from worker_agent.protocol.connection.address import load_server_file

BACK = "answers again"
TAKES_NO_WRITES = "cannot write to its disk and takes no writes"
SAVING = """
        import os
        from worker_agent import current_task

        def save_function(result):
            task = current_task()
            # 512 bytes divide a page of the disk, so a line is written completely or not at all.
            line = f"{result} {task.number} {task.attempt} {task.crashes} {task.device}".ljust(511) + "\\n"
            saved = os.open(Path(FOLDER, "saves", "saved"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(saved, line.encode())
            finally:
                os.close(saved)
        """


class Embedded(RealServer):
    """The Valkey that `mutitask run` starts, with the interface of a test's own Redis."""

    def __init__(self, server_file: Path) -> None:
        record = wait_until(lambda: load_server_file(server_file), 30, what="the embedded Valkey runs")
        self._server_file = server_file
        self._url = record.url

    @property
    def url(self) -> str:
        return self._url

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(load_server_file(self._server_file).process.pid, signal.SIGKILL)


@dataclass(slots=True)
class Filling:
    """Fill the two disks of a fleet and free them again."""

    fleet: Fleet
    server: Program
    agents: list[Program]
    state: SmallDisk
    saves: SmallDisk
    ends: bool
    """True if a full disk ends Valkey, as with `--fsync always`."""
    _back: list[int] = field(default_factory=list)
    failed: int = 0
    """The number of tasks that had failed by the time the disk had room again."""

    def fill_saves(self) -> None:
        """Fill the disk of results until saves fail."""
        self.saves.fill()
        at_first = self.fleet.counters()
        enough = at_first.failed + at_first.delayed + 20
        self.fleet.wait_for(lambda counters: counters.failed + counters.delayed >= enough)

    def fill_state(self) -> None:
        """Fill Valkey's disk until all processes report it, or until Valkey has ended and cannot restart."""
        sentence = "Cannot store the embedded Valkey's data in " if self.ends else TAKES_NO_WRITES
        programs = [self.server] if self.ends else [self.server, *self.agents]
        message_counts = [program.stderr.count(sentence) for program in programs]
        self.state.fill()
        for program, times in zip(programs, message_counts, strict=True):
            wait_for_text(program, sentence, times=times + 1)
        self._back = [program.stderr.count(BACK) for program in programs]

    def make_room(self, *disks: SmallDisk) -> None:
        """Free the disks, wait until work continues, and reload the tasks that failed."""
        for disk in disks:
            disk.make_room()
        wait_until(self.takes_writes, 60, what="Valkey takes writes")
        if self.state in disks and not self.ends:
            # A process that still waits for its next try would not notice, or report, the next full disk.
            for program, times in zip([self.server, *self.agents], self._back, strict=True):
                wait_for_text(program, BACK, times=times + 1)
        before = self.fleet.counters()
        self.fleet.wait_for(lambda counters: counters.done > before.done + 50, 60)
        if self.saves in disks:
            self.failed += before.failed + before.delayed
            self.fleet.ctl("reload_all_fail_tasks")

    def takes_writes(self) -> bool:
        """Return whether Valkey accepts a write."""
        try:
            with self.fleet.redis.client() as client:
                return client.set("room", 1, px=1) is True
        except Exception:
            return False

    def saved(self) -> list[Recorded]:
        """Return the results that the save function saved."""
        lines = (self.saves.folder / "saved").read_text().splitlines()
        found = [[int(word) for word in line.split()] for line in lines]
        return [Recorded(number, attempt, crashes, device, value)
                for value, number, attempt, crashes, device in found]  # fmt: skip


@contextlib.contextmanager
def filling(context: Context, fsync: str) -> Iterator[Filling]:
    """Start a server whose embedded Valkey is on a small disk, and two agents that save to another small disk."""
    state, saves = context.disk("state"), context.disk("saves")
    give_own_port(state.folder / NAME)
    job = write_job(context.folder, until_enough() + SAVING)
    options = ["--headless", "--autostart", "--capacity", "200", "--retry-delay", "1", "--fsync", fsync]
    server = context.spawn(["mutitask", "run", job, *options, "--name", NAME], env={"MUTITASK_REDIS_URL": ""})
    valkey = Embedded(state.folder / NAME / "server.json")
    try:
        wait_for_text(server, "\n", times=2)
        fleet = context.fleet(on=valkey)
        agents = [fleet.agent("--device", device) for device in ("0", "1")]
        yield Filling(fleet, server, agents, state, saves, fsync == "always")
    finally:
        server.kill_session()
        valkey.kill()


def fill_disks(context: Context, fsync: str) -> Row:
    """Fill one disk, the other, or both, in random order."""
    times = context.size(2, 15)
    longest_s = context.size(1, 4)
    with filling(context, fsync) as disks, Watch(disks.fleet, reloads=True) as watch:
        ways = [(disks.saves, disks.state), (disks.state,), (disks.saves,)]
        chosen: list[tuple[SmallDisk, ...]] = []
        for _ in range(times):
            chosen = chosen or context.random.sample(ways, len(ways))
            mark = disks.fleet.counters().done + context.random.randrange(50, 400)
            disks.fleet.wait_for(lambda counters, mark=mark: counters.done >= mark)
            full = chosen.pop()
            if disks.saves in full:
                disks.fill_saves()
            if disks.state in full:
                disks.fill_state()
            time.sleep(context.random.uniform(0, longest_s))
            disks.make_room(*full)
        count = enough(disks.fleet)
        if disks.fleet.wait_for(lambda counters: counters.exhausted and counters.open == 0, 60).failed:
            disks.fleet.ctl("reload_all_fail_tasks")
        row = judge(context, disks.fleet, watch, count, times=times, saved=disks.saved)
        expect_running(row, [disks.server, *disks.agents])
        crashed = sum(each.crashes > 0 for each in disks.saved())
        row.expect(crashed == 0, f"{crashed} tasks were taken from agents that lived")
    row.remarks.append(f"each for up to {longest_s} s after every process noticed it")
    row.remarks.append(
        f"{disks.failed:,} tasks could not be written and ran again or were reloaded; no process ended"
    )
    return row


def disks_full(context: Context) -> Row:
    """With `everysec`, Valkey still answers but refuses writes."""
    return fill_disks(context, "everysec")


def disks_full_always(context: Context) -> Row:
    """With `always`, Valkey ends because it cannot write, and the server restarts it."""
    return fill_disks(context, "always")


if disks_allowed():
    scenario("disks-full", "a full disk under the embedded Valkey, under a save function, or under both")(
        disks_full
    )
    scenario(
        "disks-full-always", "the same with `--fsync always`: a full disk ends Valkey until there is room"
    )(disks_full_always)
