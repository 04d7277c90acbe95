"""The tables of `docs/benchmarks.md`, one function for each part."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.figures import PURE_PYTHON, Row, fastest, figure, measured_peers, median_of, ratio

MUTITASK = tuple(("MutiTask", batch) for batch in ("adaptive", "100", "16", "1"))
BARE_LOOP = tuple(("bare loop", batch) for batch in ("1000", "100", "16", "1"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> str:
    """Return a Markdown table. The first `text` columns are text; the others are numbers, aligned to the right."""
    line = ["---" if column < text else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, line, *rows))


def noop(rows: list[Row]) -> list[str]:
    """Return the tables of part 1."""
    small = [row for row in rows if row.get("tasks", 0) <= 20_000]
    large = [row for row in rows if row.get("tasks", 0) > 20_000]
    field = "drained_per_s"
    base = {"persistence": "off", "delay_ms": 0.0, "results": True}
    peers = sorted(measured_peers(small), key=lambda name: -median_of(small, field, system=name, **base))
    _, fastest_peer = fastest(small, field, peers, **base)
    bare = median_of(small, field, system="bare loop", batch="1000", **base)
    body = []
    for system, batch in (*MUTITASK, *BARE_LOOP, *((name, "") for name in peers)):
        key = {"system": system, "batch": batch}
        main = figure(small, field, **key, **base)
        if main is None:
            continue
        other = [
            figure(small, field, **key, persistence="off", delay_ms=0.0, results=False),
            figure(small, field, **key, persistence="everysec", delay_ms=0.0, results=True),
            figure(small, field, **key, persistence="always", delay_ms=0.0, results=True),
            figure(small, field, **key, persistence="off", delay_ms=1.0, results=True),
        ]
        cpu = median_of(small, "drain_us", **key, **base)
        body.append(
            [
                f"{system}, batch {batch}" if batch else system, main.text(), f"{ratio(main.median, fastest_peer):.2f}",
                f"{ratio(main.median, bare):.2f}", f"{cpu:.1f}" if cpu else "",
                *(f"{found.median:,.0f}" if found else "" for found in other),
            ]
        )  # fmt: skip
    head = [
        "20,000 waiting no-ops, one worker process", "tasks/s, results saved", "x fastest peer", "x bare loop",
        "Valkey CPU, us/task", "no results", "file, everysec", "file, always", "1 ms before Redis",
    ]  # fmt: skip
    pieces = ["### No-ops that wait in Redis\n\n" + table(head, body)]
    if large:
        tasks = max(int(row["tasks"]) for row in large)
        body = []
        for name, batch in (("MutiTask", "adaptive"), ("bare loop", "1000"), *((name, "") for name in peers)):
            found = figure(large, field, system=name, batch=batch)
            if found:
                body.append(
                    [name, found.text(), f"{median_of(large, 'drain_us', system=name, batch=batch):.1f}"]
                )
        pieces.append(
            table([f"{tasks:,} waiting no-ops", "tasks/s, results saved", "Valkey CPU, us/task"], body)
        )
    plain = median_of(rows, "rate", system="plain loop")
    if plain:
        pieces.append(f"The same function called in a plain Python loop: {plain:,.0f} calls/s.")
    return pieces


def channels(rows: list[Row]) -> list[str]:
    """Return the table of the channels."""
    body, alone = [], median_of(rows, "rate", channels=1)
    for count in sorted({row["channels"] for row in rows}):
        rate, us = (median_of(rows, field, channels=count) for field in ("rate", "us"))
        body.append([str(count), f"{rate:,.0f}", f"{ratio(rate, alone):.2f}", f"{us:.2f}"])
    head = ["one agent, channels", "no-ops/s", "of one channel", "Valkey's CPU, us/task"]
    return ["### Several channels\n\n" + table(head, body, text=0)]


def feeding(rows: list[Row]) -> list[str]:
    """Return the table of part 2."""
    peers = sorted(measured_peers(rows), key=lambda name: -median_of(rows, "rate", system=name))
    _, fastest_peer = fastest(rows, "rate", peers)
    _, fastest_pure = fastest(rows, "rate", PURE_PYTHON)
    body = []
    for name in ("MutiTask", "bare loop", *peers):
        found = figure(rows, "rate", system=name)
        if found:
            ratios = f"{ratio(found.median, fastest_peer):.2f}", f"{ratio(found.median, fastest_pure):.2f}"
            body.append([name, found.text(), *ratios, f"{median_of(rows, 'us', system=name):.1f}"])
    head = [
        "from a generator into Redis",
        "tasks/s",
        "x fastest peer",
        "x fastest in pure Python",
        "Valkey CPU, us/task",
    ]
    return ["### Feeding\n\n" + table(head, body)]


def whole(rows: list[Row]) -> list[str]:
    """Return the table of part 3."""
    body = []
    for capacity, agents in sorted({(row["capacity"], row["agents"]) for row in rows}):
        key = {"capacity": capacity, "agents": agents}
        found = figure(rows, "rate", **key)
        if found:
            body.append([f"{capacity:,}", str(agents), found.text(), f"{median_of(rows, 'us', **key):.1f}"])
    head = ["capacity", "agents", "tasks/s", "Valkey CPU, us/task"]
    return ["### From the generator to the results\n\n" + table(head, body)]


def latency(rows: list[Row]) -> list[str]:
    """Return the table of part 4."""
    found = {row["system"]: row for row in rows}
    peers = sorted(measured_peers(rows), key=lambda name: found[name]["started"][0])
    body = []
    for name in ("MutiTask", *peers):
        waits = [*found[name]["started"], *found[name]["read"]]
        body.append([name, *(f"{wait:.2f}" for wait in waits)])
    head = ["100 tasks/s, ms", "started, p50", "p99", "p99.9", "result readable, p50", "p99", "p99.9"]
    return ["### Light load\n\n" + table(head, body)]


def tasks(rows: list[Row]) -> list[str]:
    """Return the table of part 5."""
    body = []
    order = {"MutiTask": 0}
    keys = {(row["system"], row["pool"]) for row in rows}
    for system, pool in sorted(keys, key=lambda key: (order.get(key[0], 1), key[1], key[0])):
        cells = []
        for nap_ms in (1.0, 100.0):
            found = [
                (row["rate"], row["rate"] / row["alone"])
                for row in rows
                if row["system"] == system and row["pool"] == pool and row["nap_ms"] == nap_ms
            ]
            if found:
                rate, share = (statistics.median(values) for values in zip(*found, strict=True))
                cells += [f"{rate:,.0f}", f"{share:.0%}"]
            else:
                cells += ["", ""]
        body.append([system, pool, *cells])
    head = [
        "32 at once",
        "by",
        "1 ms tasks/s",
        "of the functions alone",
        "100 ms tasks/s",
        "of the functions alone",
    ]
    return ["### Tasks of 1 ms and 100 ms\n\n" + table(head, body)]


def coroutines(rows: list[Row]) -> list[str]:
    """Return the table of coroutines on one event loop."""
    body = []
    cases = sorted({(row["nap_ms"], row["at_once"]) for row in rows})
    for name in ("gather", "gather, uvloop", "MutiTask", *measured_peers(rows)):
        cells = []
        for nap_ms, at_once in cases:
            key = {"nap_ms": nap_ms, "at_once": at_once}
            rate = median_of(rows, "rate", system=name, **key)
            share = ratio(rate, median_of(rows, "rate", system="gather", **key))
            cells += [f"{rate:,.0f}" if rate else "", f"{share:.0%}" if rate else ""]
        most_us, most_kb = (
            max(row[field] for row in rows if row["system"] == name) for field in ("cpu_us", "peak_kb")
        )
        body.append(
            [name, *cells, f"{most_us:.1f}" if most_us else "", f"{most_kb / 1024:.0f}" if most_kb else ""]
        )
    head = ["coroutines that sleep"]
    for nap_ms, at_once in cases:
        head += [f"{nap_ms:g} ms, {at_once:,} at once: tasks/s", "of gather"]
    return ["### Coroutines\n\n" + table([*head, "worker's CPU, us/task", "most memory, MB"], body)]


def mixed(rows: list[Row]) -> list[str]:
    """Return the table of the second half of part 5."""
    body = []
    for slots in sorted({row["concurrency"] for row in rows}):
        runs = [row for row in rows if row["concurrency"] == slots]
        body.append(
            [
                str(slots), f"{statistics.median(row['took'] for row in runs):.2f}",
                f"{statistics.median(row['ideal'] for row in runs):.2f}",
                f"{max(row['longest_idle'] for row in runs):.2f}" if slots == 1 else "",
                f"{statistics.median(row['idle_share'] for row in runs):.1%}" if slots == 1 else "",
                f"{max(row['behind_p99'] for row in runs):.3f}", f"{max(row['behind_most'] for row in runs):.3f}",
                f"{max(row['behind_free'] for row in runs):.3f}",
            ]
        )  # fmt: skip
    head = [
        "4 agents: slots each", "total time, s", "ideal time, s", "longest idle time while tasks were left, s",
        "idle share", "short task claimed but not started, p99, s", "maximum, s",
        "maximum while the device had a free slot, s",
    ]  # fmt: skip
    return ["### 99 % of 1 ms and 1 % of 2 s\n\n" + table(head, body)]


def payloads(rows: list[Row]) -> list[str]:
    """Return the table of part 6."""
    sizes = sorted({row["bytes"] for row in rows})
    body = []
    for name in ("MutiTask", "bare loop", *measured_peers(rows)):
        cells = []
        for size in sizes:
            key = {"system": name, "bytes": size}
            cells += [f"{median_of(rows, field, **key):,.0f}" for field in ("fed_per_s", "drained_per_s")]
            cells.append(f"{median_of(rows, 'drain_us', **key):,.1f}")
        body.append([name, *cells])
    named = {100: "100 B", 1_000: "1 kB", 10_000: "10 kB", 100_000: "100 kB", 1_000_000: "1 MB"}
    head = ["tasks/s"] + [
        f"{named[size]}: {what}" for size in sizes for what in ("fed", "drained", "us/task")
    ]
    return ["### Payloads\n\n" + table(head, body)]


def pausing(rows: list[Row]) -> list[str]:
    """Return the table of part 7."""
    body = [
        [f"{row['rate']:,}/s", f"{row['p50']:.0f}", f"{row['p99']:.0f}", str(row["count"])] for row in rows
    ]
    return [
        "### `pause_all`\n\n"
        + table(["200 simulated devices, tasks/s", "p50, ms", "p99, ms", "repetitions"], body)
    ]


def growth(rows: list[Row]) -> list[str]:
    """Return the tables of part 8."""
    devices = [
        [
            f"{row['devices']:,}",
            f"{row['rate']:,.0f}",
            f"{row['us']:.2f}",
            f"{row['idle_us_per_device']:,.0f}",
        ]
        for row in rows
        if "devices" in row
    ]
    waiting = [
        [
            f"{row['waiting']:,}", f"{row['fed_per_s']:,.0f}", f"{row['feed_us']:.2f}", f"{row['drained_per_s']:,.0f}",
            f"{row['drain_us']:.2f}", f"{row['memory']:.0f}",
        ]
        for row in rows
        if "waiting" in row
    ]  # fmt: skip
    first = ["simulated devices", "total tasks/s", "Valkey CPU, us/task", "idle, us/s per device"]
    second = [
        "waiting tasks",
        "fed, tasks/s",
        "us/task",
        "drained, tasks/s",
        "us/task",
        "Redis memory, bytes/task",
    ]
    return ["### Growth\n\n" + table(first, devices), table(second, waiting)]


def footprint(rows: list[Row]) -> list[str]:
    """Return the table of part 9."""
    starts, memory = rows
    agent, bare = starts["agent_s"] * 1000, starts["bare_s"] * 1000
    body = [
        ["start to first task (bare process: to first answer), ms", f"{agent:.0f}", f"{bare:.0f}"],
        ["resident memory, idle, MB", f"{memory['idle_kb'] / 1024:.1f}", f"{memory['bare_kb'] / 1024:.1f}"],
        ["resident memory after 20,000 tasks, MB", f"{memory['early_kb'] / 1024:.1f}", ""],
        [f"resident memory after {memory['tasks']:,} tasks, MB", f"{memory['late_kb'] / 1024:.1f}", ""],
        ["idle CPU", f"{memory['idle_cpu']:.2%}", ""],
    ]
    return ["### An agent's footprint\n\n" + table(["", "agent", "bare process"], body)]


TABLES: dict[str, Callable[[list[Row]], list[str]]] = {
    "noop": noop, "channels": channels, "feeding": feeding, "whole": whole, "latency": latency, "tasks": tasks,
    "mixed": mixed, "coroutines": coroutines,
    "payloads": payloads, "pausing": pausing, "growth": growth, "footprint": footprint,
}  # fmt: skip
