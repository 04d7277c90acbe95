"""From what a person named to an open run: which Redis, whether its work is resumed, and how others join."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from mutitask_tui.embedded import valkey as embedded
from mutitask_tui.embedded.home import Fsync
from mutitask_tui.embedded.ports import LOOPBACK
from mutitask_tui.server.commands.redis_backend import worker_line
from mutitask_tui.server.core import ServerCore, afresh, resumed
from mutitask_tui.server.reader import Reader
from worker_agent.console import lines, streams
from worker_agent.protocol.connection.address import redact, shown_url
from worker_agent.protocol.errors import JobError, MutiTaskError, NamespaceHoldsWork
from worker_agent.protocol.membership import RunPlan
from worker_agent.protocol.pristine import time

DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is. `own` is the embedded Valkey that goes with the server, if it is one."""

    url: str
    own: embedded.EmbeddedServer | None
    fsync: Fsync = "everysec"

    @property
    def shown(self) -> str:
        """The address as people may see it."""
        return redact(self.url)


@dataclass(frozen=True, slots=True)
class Awake:
    """An embedded Valkey that was started only to look at what it kept."""

    own: embedded.EmbeddedServer
    name: str

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.own.url

    def sleep_again(self) -> None:
        """End it, unless a server has come to use it meanwhile."""
        with contextlib.suppress(MutiTaskError):
            if Reader(self.url, self.name).snapshot().server is not None:
                return
        self.own.stop()


def wake_up(name: str) -> Awake | None:
    """Start the embedded Valkey of a namespace whose server has ended; None where it runs, or kept nothing."""
    if not embedded.at_rest(name):
        return None
    own = embedded.ensure(name)
    return Awake(own, name) if own.started else None


def put_to_rest(url: str, name: str) -> bool:
    """End the embedded Valkey at `url` once its agents have left (or did not, in ten seconds); whether it is one."""
    own = embedded.find(name)
    if own is None or own.url != url or not own.has_data:
        return False
    reader = Reader(url, name)
    until = time.monotonic() + DRAIN_S
    with contextlib.suppress(MutiTaskError):
        while time.monotonic() < until and any(d.state != "offline" for d in reader.snapshot().devices):
            time.sleep(0.1)
    own.stop()
    return True


def end_with_server(own: embedded.EmbeddedServer, name: str) -> str:
    """End the embedded Valkey of a server that has ended, unless somebody still needs it; who does, or ''.

    What it holds stays on disk. Agents still need it, and so does another server.
    """
    try:
        snapshot = Reader(own.url, name).snapshot()
    except MutiTaskError:
        # It holds nothing, or answers nobody.
        own.stop()
        return ""
    if snapshot.server is not None:
        return "another server"
    there = [f"Device{device.id}" for device in snapshot.devices if device.state != "offline"]
    if there:
        return there[0] if len(there) == 1 else f"{there[0]} and {len(there) - 1} more"
    own.stop()
    return ""


def embedded_place(name: str, listen: str, fsync: Fsync = "everysec", *, usual_port: bool = False) -> Place:
    """The embedded Valkey of a namespace, found or started."""
    own = embedded.ensure(name, listen=listen, fsync=fsync, usual_port=usual_port)
    return Place(own.url, own, fsync)


def open_core(
    place: Place,
    name: str,
    plan: RunPlan,
    iterators: Sequence[Iterator[Any]],
    on_note: Callable[[str], None],
    *,
    may_ask: bool,
    totals: Callable[[], Sequence[int | None]] = tuple,
    on_allotted: Callable[[int, Any, int], None] | None = None,
) -> ServerCore:
    """A core that holds the namespace. Where that holds work and nobody said what becomes of it, a person
    on a terminal is asked. Raises `MutiTaskError`."""
    core = ServerCore(
        place.url, name, plan, iterators, totals=totals, on_allotted=on_allotted, on_note=on_note
    )
    core.check()
    try:
        core.open()
    except NamespaceHoldsWork as work:
        if plan.mode or not (may_ask and streams.on_terminal()):
            raise
        choice = _ask(str(work).partition(": pass --resume")[0])
        if choice is None:
            raise JobError("nothing was begun and nothing dropped") from None
        core = ServerCore(
            place.url, name, choice(plan), iterators, totals=totals, on_allotted=on_allotted, on_note=on_note
        )
        core.open()
    return core


@streams.original()
def _ask(text: str) -> Callable[[RunPlan], RunPlan] | None:
    lines.print_stdout(f"{text}.")
    answer = click.prompt(
        "resume goes on with it, fresh drops it",
        type=click.Choice(["resume", "fresh", "cancel"]),
        default="cancel",
    )
    if answer == "resume":
        return resumed
    if answer == "fresh" and click.confirm("Drop everything that this namespace holds?", default=False):
        return afresh
    return None


def join_note(place: Place) -> str:
    """What else another machine needs, or '': an embedded Valkey on loopback lets no other machine in."""
    if place.own is None or place.own.listen != LOOPBACK:
        return ""
    return (
        "The embedded Valkey listens on this machine alone, so no other machine can join yet. End the server with q "
        "(what waits is kept), and start it again with: --resume --listen ADDRESS, an address of this machine that "
        "the others reach."
    )


def join_line(place: Place, job: str, name: str, *, with_password: bool) -> str:
    """The `worker-agent` line to type on another machine."""
    url = place.own.join_url if place.own else place.url
    address = url if with_password else shown_url(url)
    return worker_line(job, address, *([] if name == "default" else ["--name", name]))
