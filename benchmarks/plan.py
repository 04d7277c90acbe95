"""How much is measured: the full run, the quick one and the short one of CI."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.systems import PEERS, Peer


@dataclass(frozen=True, slots=True)
class Plan:
    """A run. `left_out` says why peers are missing; `rounds` is how often each figure is taken, in turn."""

    rounds: int
    seconds: float
    """About how long one backlog of a peer lasts."""
    tasks: int = 20_000
    many: int = 100_000
    quick: bool = False
    peers: tuple[Peer, ...] = PEERS

    def count(self, peer: Peer, seconds: float | None = None) -> int:
        """How many no-ops a peer is given: as many as the others, or as many as it does in a few seconds."""
        return max(500, min(self.tasks, int(peer.about * (seconds or self.seconds))))

    def turn(self, number: int) -> list[Peer]:
        """The peers in the order of that round: another one begins each time."""
        start = number * 3 % max(1, len(self.peers))
        return [*self.peers[start:], *self.peers[:start]]

    def on_redis(self, number: int) -> list[Peer]:
        """Those of them that stand on Redis."""
        return [peer for peer in self.turn(number) if peer.redis]


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, flush=True)
