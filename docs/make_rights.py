"""Write the ACL line of each role, and the keys that an agent can change, into docs/security.md.

Usage: `python docs/make_rights.py`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from worker_agent.protocol.bodies import key_prefix
from worker_agent.protocol.keys import Keys

PAGE = Path(__file__).with_name("security.md")
ANY = Keys("NAME")
IN_CHANNEL = ANY.channel(0)
BODIES = key_prefix("NAME").decode() + "*"


@dataclass(frozen=True)
class Rule:
    """The commands that a role may use on the keys of some patterns.

    `access` is `%W` for keys that the role may not read, `%R` for keys that it may only read, and empty otherwise.
    """

    keys: tuple[str, ...]
    commands: str
    access: str = ""


def every(key: str) -> str:
    """Return the pattern of a key for every channel and device."""
    return key.replace("channel:0:", "channel:*:").replace(":device:0", ":device:*")


EVERYWHERE = "ping time"
"""The commands without a key that every role needs."""

AGENT = (
    Rule((ANY.meta, IN_CHANNEL.counters, ANY.prefix + ":wish:*"), "hget hmget hlen", "%R"),
    Rule((ANY.fleet,), "hget hset"),
    Rule((ANY.agents,), "hget hset hdel"),
    Rule((ANY.leases,), "zscore zrangebyscore zadd zrem"),
    Rule((ANY.actor("a-*"),), "hget hmget hgetall hlen hset pexpire"),
    Rule((IN_CHANNEL.agent_counters,), "hget hmget hset hincrby hdel"),
    Rule((IN_CHANNEL.waiting,), "llen lpop lpush rpush"),
    Rule((IN_CHANNEL.delayed,), "zcard zrangebyscore zadd zrem"),
    Rule((IN_CHANNEL.claims("*"), IN_CHANNEL.claim_counts, IN_CHANNEL.retry_reasons), "hget hlen hkeys hset hdel"),
    Rule((IN_CHANNEL.agents,), "zcard zadd zrem"),
    Rule((IN_CHANNEL.failed, IN_CHANNEL.reasons, IN_CHANNEL.traces), "hlen hexists hsetnx", "%W"),
    Rule((IN_CHANNEL.trace_uses,), "hlen hincrby"),
    Rule((IN_CHANNEL.failed_at, ANY.heard), "zcard zadd", "%W"),
    Rule((IN_CHANNEL.results, ANY.events), "llen rpush", "%W"),
    Rule((ANY.devices,), "hlen hset", "%W"),
    Rule((ANY.device_log(0),), "llen rpush ltrim pexpire", "%W"),
    Rule((ANY.detect_answers("*"),), "rpush pexpire", "%W"),
    Rule((IN_CHANNEL.token, ANY.device_token(0)), "llen lpush blpop"),
    Rule((ANY.server_token,), "llen lpush", "%W"),
    Rule((BODIES,), "mget mset unlink"),
)  # fmt: skip

SERVER = (
    Rule(
        (ANY.prefix + ":*", BODIES),
        "eval evalsha del pexpire scan exists mget mset unlink "
        "hget hmget hgetall hkeys hvals hlen hexists hscan hset hsetnx hincrby hdel "
        "llen lindex lrange lpush rpush lpop ltrim blpop "
        "zcard zcount zscore zrange zrevrange zrangebyscore zadd zrem",
    ),
)

DASHBOARD = (
    Rule(
        (ANY.prefix + ":*", BODIES),
        "mget hget hmget hgetall hkeys hvals hlen llen lindex lrange zcard zcount zscore zrange "
        "zrevrange zrangebyscore",
        "%R",
    ),
)

SCRIPTS = Rule((ANY.prefix + ":*",), "eval evalsha")
"""Redis checks the call of a script, then each command in it. This rule grants none of those commands."""

ROLES: dict[str, tuple[Rule, ...]] = {
    "server": SERVER,
    "agent": (*AGENT, SCRIPTS),
    "dashboard": (*DASHBOARD, SCRIPTS),
}

READS = {
    "scan", "exists", "mget",
    "hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hexists", "hscan", "llen", "lindex", "lrange",
    "zcard", "zcount", "zscore", "zrange", "zrevrange", "zrangebyscore",
}  # fmt: skip
"""The commands above that change nothing. For scripts (`eval`, `evalsha`), the commands in them count."""

KEYS: dict[str, str] = {
    key.removeprefix(ANY.prefix + ":"): what
    for key, what in {
        ANY.meta: "the settings of the run, and its server",
        ANY.server_lease: "the end of the server's lease",
        ANY.actor("s-*"): "the record of the server, and the records of commands (`c-*`)",
        ANY.desired_devices: (
            "the desired state of devices; likewise `wish:assign`, `:channels`, `:server`, `:stop`, `:cancel`, "
            "`:detect`"
        ),
        IN_CHANNEL.counters: "the counters of the server: allotted items, position in the generator, capacity",
        IN_CHANNEL.marks: "digests by which a resumed run recognises its generator",
        IN_CHANNEL.history: "the last hour",
        IN_CHANNEL.results: "results until they are drained",
        IN_CHANNEL.failed: "failed tasks",
        IN_CHANNEL.reasons: "the errors of failed tasks",
        IN_CHANNEL.traces: "the tracebacks in these errors, each once",
        IN_CHANNEL.trace_uses: "how many errors have each of these tracebacks",
        IN_CHANNEL.failed_at: "the times at which tasks failed",
        ANY.events: "the event log",
        IN_CHANNEL.waiting: "waiting tasks",
        IN_CHANNEL.delayed: "delayed tasks",
        IN_CHANNEL.claims("*"): "the tasks that each agent has claimed",
        IN_CHANNEL.claim_counts: "the number of tasks that each agent has claimed",
        IN_CHANNEL.retry_reasons: "the errors of tasks that will run again",
        IN_CHANNEL.agent_counters: "the counters of agents: done tasks, failed runs",
        IN_CHANNEL.agents: "the agents of a channel",
        ANY.leases: "the end of each agent's lease",
        ANY.agents: "the agent of each device",
        ANY.actor("a-*"): "the records of agents",
        ANY.devices: "the last report of each device",
        ANY.heard: "the time of each device's last heartbeat",
        ANY.device_log(0): "the last lines of a device's log, and of its tasks",
        ANY.detect_answers("*"): "answers to a detect",
        ANY.fleet: "the number of devices in the grid, and the time of the last sweep",
        IN_CHANNEL.token: "wakes an agent that waits for tasks",
        ANY.device_token(0): "wakes a device's agent",
        ANY.server_token: "wakes the server",
        BODIES: "the bodies of large tasks and results",
    }.items()
}


def changes(role: str, key: str) -> list[str]:
    """Return the commands with which the role can change a key of this kind (a key of `KEYS`)."""
    wanted = key if key == BODIES else every(f"{ANY.prefix}:{key}")
    found = {
        command
        for rule in ROLES[role]
        if rule.access != "%R" and any(matches(every(pattern), wanted) for pattern in rule.keys)
        for command in rule.commands.split()
        if command not in READS and not command.startswith("eval")
    }
    return sorted(found)


def matches(pattern: str, key: str) -> bool:
    """Return whether an ACL pattern covers all keys of a kind."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), key) is not None


def line(role: str) -> str:
    """Return the command that creates the user of the role, as a person types it."""
    words = [f"+{command}" for command in EVERYWHERE.split()]
    first, *others = ROLES[role] if role != "agent" else (None, *ROLES[role])
    if first:
        words = [
            *(f"'{pattern}'" for pattern in access_to(first).split()),
            *words,
            *[f"+{command}" for command in first.commands.split()],
        ]
    selectors = [
        f"'({' '.join(f'+{command}' for command in rule.commands.split())} {access_to(rule)})'" for rule in others
    ]  # fmt: skip
    head = f"valkey-cli ACL SETUSER mt-{role} reset on '>PASSWORD'"
    plain = textwrap.wrap(
        " ".join([head, *words]), 112, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    return " \\\n".join([*plain, *(f"    {selector}" for selector in selectors)])


def access_to(rule: Rule) -> str:
    """Return the key patterns of a rule."""
    return " ".join(f"{rule.access}~{every(key)}" for key in rule.keys)


def blocks() -> dict[str, str]:
    """Return the generated blocks of the page, by name."""
    rows = [
        f"| `{every(key)}` | {what} | {', '.join(changes('agent', key)) or 'nothing'} |"
        for key, what in KEYS.items()
    ]
    table = ["| key | holds | an agent changes it by |", "|---|---|---|", *rows]
    return {role: f"```sh\n{line(role)}\n```" for role in ROLES} | {"table": "\n".join(table)}


def written(page: str) -> str:
    """Return the page with new blocks."""
    for name, block in blocks().items():
        mark, end = f"<!-- rights: {name}, made by docs/make_rights.py -->", "<!-- end -->"
        before, _, rest = page.partition(mark)
        page = f"{before}{mark}\n{block}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
