"""The names of all keys in Redis. Those of a namespace share one hash tag, so each script stays in one slot."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CHANNELS = 100_000
"""The most channels of a namespace. MutiTask never writes a higher number."""


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """The keys of one channel, `TaskChannelN`."""

    prefix: str

    @property
    def counters(self) -> str:
        """HASH `books`: allotted, cursor, capacity, total, deleted, drained, exhausted, halted. Agents only read it."""
        return f"{self.prefix}:books"

    @property
    def marks(self) -> str:
        """HASH: the number of some items -> digest (see allot.lua); `last` -> number and digest of the last item."""
        return f"{self.prefix}:marks"

    @property
    def agent_counters(self) -> str:
        """HASH `tally`: done, errors, foreign, starved, rate_ms. Agents write it; the server writes `books`."""
        return f"{self.prefix}:tally"

    @property
    def waiting(self) -> str:
        """LIST of items that wait."""
        return f"{self.prefix}:waiting"

    @property
    def delayed(self) -> str:
        """ZSET: item -> when it is due, in ms since the epoch."""
        return f"{self.prefix}:delayed"

    @property
    def failed(self) -> str:
        """HASH: id -> item. The FailChannel. An agent adds items; it may neither read nor change them."""
        return f"{self.prefix}:failed"

    @property
    def failed_at(self) -> str:
        """ZSET: id -> when the task failed, in ms since the epoch."""
        return f"{self.prefix}:failed_at"

    @property
    def reasons(self) -> str:
        """HASH: id of a task in the FailChannel -> one msgpack map after another, for each failed run (reasons.py)."""
        return f"{self.prefix}:reasons"

    @property
    def traces(self) -> str:
        """HASH: digest -> a traceback of failed tasks. Equal tracebacks are kept once."""
        return f"{self.prefix}:traces"

    @property
    def trace_uses(self) -> str:
        """HASH: digest of a traceback -> how many failed runs in the FailChannel have it."""
        return f"{self.prefix}:trace_uses"

    @property
    def retry_reasons(self) -> str:
        """HASH `tries`: the same for tasks that will run again, with whole tracebacks."""
        return f"{self.prefix}:tries"

    @property
    def results(self) -> str:
        """LIST of results until they are drained: the header, then msgpack."""
        return f"{self.prefix}:results"

    @property
    def claim_counts(self) -> str:
        """HASH `holders`: actor -> how many tasks it has claimed."""
        return f"{self.prefix}:holders"

    @property
    def agents(self) -> str:
        """ZSET of the agents that claim from the channel: actor -> when it last said so, in ms since the epoch."""
        return f"{self.prefix}:agents"

    @property
    def token(self) -> str:
        """LIST with at most one token, which says that tasks wait."""
        return f"{self.prefix}:token"

    @property
    def history(self) -> str:
        """LIST of samples of the counters, one line every few seconds for an hour. The server writes it."""
        return f"{self.prefix}:history"

    def claims(self, actor: str) -> str:
        """HASH of one actor: number of a claim -> its items; `NUMBER:open` -> a letter for each (see prelude.lua)."""
        return f"{self.prefix}:claims:{actor}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    name: str

    @property
    def prefix(self) -> str:
        """The hash tag that keeps the namespace in one slot."""
        return f"{{mt:{self.name}}}"

    @property
    def meta(self) -> str:
        """HASH: protocol, run, started_ms, channels, lease_ms, retry, retry:C, server, ... Agents only read it."""
        return f"{self.prefix}:meta"

    @property
    def fleet(self) -> str:
        """HASH: devices (how many the grid has), swept_ms (when the last sweep was). Agents write it too."""
        return f"{self.prefix}:fleet"

    @property
    def leases(self) -> str:
        """ZSET: agent's actor -> when its lease ends, in ms since the epoch. 0 means: fenced, not yet recovered."""
        return f"{self.prefix}:leases"

    @property
    def server_lease(self) -> str:
        """ZSET with one member: the server's actor -> when its lease ends. Agents may write `leases`, not this key."""
        return f"{self.prefix}:lease:server"

    @property
    def agents(self) -> str:
        """HASH: device -> the actor on it."""
        return f"{self.prefix}:agents"

    @property
    def devices(self) -> str:
        """HASH: device -> its last report after 13 digits of ms since the epoch."""
        return f"{self.prefix}:devices"

    @property
    def heard(self) -> str:
        """ZSET: device -> when its last heartbeat came, in ms since the epoch. A snapshot finds what changed by it."""
        return f"{self.prefix}:heard"

    @property
    def events(self) -> str:
        """LIST of events, newest last: 13 digits of ms; level, who and text as msgpack. Agents only append to it."""
        return f"{self.prefix}:events"

    @property
    def desired_devices(self) -> str:
        """HASH: device or `default` -> `running` or `paused`."""
        return f"{self.prefix}:wish:devices"

    @property
    def desired_channels(self) -> str:
        """HASH: channel -> `paused`; `rate:C` -> tasks and per how many ms; `skip:C` -> number of the item to skip."""
        return f"{self.prefix}:wish:channels"

    @property
    def desired_server(self) -> str:
        """HASH: `allot` -> `paused` or `ended`; `quit` -> actor of the server that should end."""
        return f"{self.prefix}:wish:server"

    @property
    def desired_assignments(self) -> str:
        """HASH: device -> the channels that it should serve: `all`, or numbers such as `0,2`."""
        return f"{self.prefix}:wish:assign"

    @property
    def desired_stop(self) -> str:
        """HASH: actor -> `1` (stop), `2` (force stop), `r` (restart) or `rr` (the same without a wait)."""
        return f"{self.prefix}:wish:stop"

    @property
    def desired_detect(self) -> str:
        """HASH: device -> the detect that it should answer."""
        return f"{self.prefix}:wish:detect"

    @property
    def desired_cancels(self) -> str:
        """HASH with a time to live: actor -> the tasks that it should cancel, one line each (see `cancels.py`)."""
        return f"{self.prefix}:wish:cancel"

    @property
    def server_token(self) -> str:
        """LIST with at most one token, which wakes the server."""
        return f"{self.prefix}:token:server"

    def device_token(self, device: int) -> str:
        """LIST with at most one token, which makes the device's agent read its desired state at once."""
        return f"{self.prefix}:token:device:{device}"

    def device_log(self, device: int) -> str:
        """LIST with a time to live: the last lines that the device's agent logged."""
        return f"{self.prefix}:log:device:{device}"

    def device_lines(self, device: int) -> str:
        """LIST with a time to live: the last lines that the device's tasks printed and logged (`task_line.py`)."""
        return f"{self.prefix}:log:device:{device}:tasks"

    def actor(self, actor: str) -> str:
        """HASH with a time to live: number and answer of the last numbered call, dead, and the process's identity."""
        return f"{self.prefix}:actor:{actor}"

    def detect_answers(self, detect: str) -> str:
        """LIST with a time to live: the answers to one detect."""
        return f"{self.prefix}:detect:{detect}"

    def channel(self, channel: int) -> ChannelKeys:
        """Return the keys of one channel."""
        return ChannelKeys(f"{self.prefix}:channel:{channel}")
