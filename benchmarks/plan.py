"""How much a benchmark run measures."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.systems import PEERS, Peer


@dataclass(frozen=True, slots=True)
class Plan:
    """The amount of work of a run."""

    rounds: int
    """How often each figure is measured."""
    seconds: float
    """About how long a peer needs for its backlog, in seconds."""
    tasks: int = 20_000
    """The size of a normal backlog."""
    many: int = 100_000
    """The size of a large backlog, for fast systems."""
    quick: bool = False
    """Whether this is a quick run (`--quick`)."""
    peers: tuple[Peer, ...] = PEERS
    """The peers to measure."""

    def count(self, peer: Peer, seconds: float | None = None) -> int:
        """Return how many no-ops a peer gets: `tasks`, or as many as it runs in `seconds` if that is less."""
        return max(500, min(self.tasks, int(peer.expected_rate * (seconds or self.seconds))))

    def rotated(self, number: int) -> list[Peer]:
        """Return the peers in the order of round `number`. Each round starts with another peer."""
        start = number * 3 % max(1, len(self.peers))
        return [*self.peers[start:], *self.peers[:start]]

    def redis_peers(self, number: int) -> list[Peer]:
        """Return the peers that use Redis, in the order of round `number`."""
        return [peer for peer in self.rotated(number) if peer.redis]


def progress(text: str) -> None:
    """Print a line about the progress of the run."""
    print(text, flush=True)
