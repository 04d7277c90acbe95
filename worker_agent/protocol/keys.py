"""Every key name. All keys of a namespace share one hash tag, so that each script stays in one slot."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CHANNELS = 100_000
"""More are a number that no program of ours wrote."""


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """The keys of one channel, `TaskChannelN`."""

    prefix: str

    @property
    def counters(self) -> str:
        """HASH: allotted, cursor, capacity, total, deleted, drained, exhausted, halted. An agent only reads it."""
        return f"{self.prefix}:books"

    @property
    def marks(self) -> str:
        """HASH: a number of an item -> its digest (see allot.lua), `last` -> the last one's number and digest."""
        return f"{self.prefix}:marks"

    @property
    def agent_counters(self) -> str:
        """HASH: done, errors, foreign, starved: what agents count, apart from what only a server may write."""
        return f"{self.prefix}:tally"

    @property
    def waiting(self) -> str:
        """LIST of items."""
        return f"{self.prefix}:waiting"

    @property
    def delayed(self) -> str:
        """ZSET item -> due, ms."""
        return f"{self.prefix}:delayed"

    @property
    def failed(self) -> str:
        """HASH id -> item: the FailChannel. An agent adds to it, and neither reads nor changes what is there."""
        return f"{self.prefix}:failed"

    @property
    def failed_at(self) -> str:
        """ZSET id -> ms."""
        return f"{self.prefix}:failed_at"

    @property
    def reasons(self) -> str:
        """HASH id -> msgpack, one map after the other for each failed run of a task in the FailChannel."""
        return f"{self.prefix}:reasons"

    @property
    def retry_reasons(self) -> str:
        """HASH id -> the same for a task that is still to be run again."""
        return f"{self.prefix}:tries"

    @property
    def results(self) -> str:
        """LIST of header and msgpack, until drained."""
        return f"{self.prefix}:results"

    @property
    def claim_counts(self) -> str:
        """HASH actor -> number of its claimed tasks."""
        return f"{self.prefix}:holders"

    @property
    def agents(self) -> str:
        """ZSET of the running agents, actor -> last report, ms."""
        return f"{self.prefix}:agents"

    @property
    def token(self) -> str:
        """LIST, at most one entry: something waits."""
        return f"{self.prefix}:token"

    @property
    def history(self) -> str:
        """LIST of lines of numbers, a sample of the books every few seconds, for an hour. A server keeps it."""
        return f"{self.prefix}:history"

    def claims(self, actor: str) -> str:
        """HASH, of one actor: a claim's number -> its items, `NUMBER:open` -> a letter for each (see the prelude)."""
        return f"{self.prefix}:claims:{actor}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    name: str

    @property
    def prefix(self) -> str:
        """The hash tag that keeps a namespace in one slot."""
        return f"{{mt:{self.name}}}"

    @property
    def meta(self) -> str:
        """HASH: protocol, run, started_ms, channels, lease_ms, retries, server, ... An agent only reads it."""
        return f"{self.prefix}:meta"

    @property
    def fleet(self) -> str:
        """HASH: devices (how many the grid has), swept_ms (when somebody last swept). Agents write it too."""
        return f"{self.prefix}:fleet"

    @property
    def leases(self) -> str:
        """ZSET agent's actor -> expiry, ms (0: dead, still to be recovered)."""
        return f"{self.prefix}:leases"

    @property
    def server_lease(self) -> str:
        """ZSET of one: the server's actor -> expiry, ms. Apart from the agents' leases, which every agent may write."""
        return f"{self.prefix}:lease:server"

    @property
    def agents(self) -> str:
        """HASH device -> the actor on it."""
        return f"{self.prefix}:agents"

    @property
    def devices(self) -> str:
        """HASH device -> 13 digits of ms and its last report."""
        return f"{self.prefix}:devices"

    @property
    def events(self) -> str:
        """LIST of 13 digits of ms and level, who and text as msgpack, newest last. An agent only adds to it."""
        return f"{self.prefix}:events"

    @property
    def desired_devices(self) -> str:
        """HASH device, or `default`, -> `running` or `paused`."""
        return f"{self.prefix}:wish:devices"

    @property
    def desired_channels(self) -> str:
        """HASH channel -> `paused`; `skip:C` -> number of the item to pass over."""
        return f"{self.prefix}:wish:channels"

    @property
    def desired_server(self) -> str:
        """HASH: `allot` -> `paused` or `ended`; `quit` -> the server that shall end."""
        return f"{self.prefix}:wish:server"

    @property
    def desired_stop(self) -> str:
        """HASH actor -> `1`: that agent shall stop."""
        return f"{self.prefix}:wish:stop"

    @property
    def desired_detect(self) -> str:
        """HASH device -> the detect that it shall answer."""
        return f"{self.prefix}:wish:detect"

    @property
    def server_token(self) -> str:
        """LIST, at most one entry: the server should look."""
        return f"{self.prefix}:token:server"

    def device_token(self, device: int) -> str:
        """LIST, at most one entry: the device's agent should look at its desired."""
        return f"{self.prefix}:token:device:{device}"

    def device_log(self, device: int) -> str:
        """LIST with a time to live: the tail of what the device's agent logged."""
        return f"{self.prefix}:log:device:{device}"

    def actor(self, actor: str) -> str:
        """HASH with a time to live: number, answer, dead, and who it is."""
        return f"{self.prefix}:actor:{actor}"

    def detect_answers(self, detect: str) -> str:
        """LIST with a time to live: answers to one detect."""
        return f"{self.prefix}:detect:{detect}"

    def channel(self, channel: int) -> ChannelKeys:
        """The keys of one channel."""
        return ChannelKeys(f"{self.prefix}:channel:{channel}")
