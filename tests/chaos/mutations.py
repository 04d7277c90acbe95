"""Remove guards from the code and report the test that fails: `python -m tests.chaos.mutations [WORD ...]`.

Each mutation is made in a copy of the repository. The tests that should notice it run there until the first one fails.
With words, only mutations whose text contains one of them are tried. Prints a Markdown table.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import ROOT, environment

PROTOCOL = ("tests/protocol/test_laws.py", "tests/protocol/test_scripts_answer.py",
            "tests/protocol/test_scripts_are_harmless.py", "tests/protocol/test_several_channels.py",
            "tests/protocol/test_retries.py", "tests/protocol/test_rates.py",
            "tests/protocol/test_counters_balance.py")  # fmt: skip
CRASHES = ("tests/crashes",)
BODIES = (
    "tests/protocol/test_bodies.py",
    "tests/protocol/test_body_sweep.py",
    "tests/server/test_large_bodies.py",
)
AGENT = (
    "tests/agent/test_several_channels.py::test_a_recovered_task_of_one_channel_runs_alone_in_an_agent_of_several",
)
LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of the code that `tests` should notice: `by` replaces `text`, which the file contains exactly once.

    `file` is a path from the repository's root, or the bare name of a Lua script.
    """

    what: str
    file: str
    text: str
    by: str
    tests: tuple[str, ...] = PROTOCOL

    @property
    def path(self) -> str:
        """The path of the file from the repository's root."""
        return self.file if "/" in self.file else f"worker_agent/protocol/lua/{self.file}.lua"


MUTATIONS = (
    Mutation(
        "a settled task is settled again, one by one", "settle_and_claim",
        "if state == '' or state == SETTLED then", "if state == '' then",
    ),
    Mutation(
        "a settled task is settled again in a run of done tasks", "settle_and_claim",
        " and not string.find(open, '[^' .. NEW .. ']') then", " then",
    ),
    Mutation(
        "a settled task stays open", "settle_and_claim", "string.rep(SETTLED, #open)", "open",
    ),
    Mutation(
        "a done task that failed before keeps its failure reasons", "settle_and_claim",
        "if state ~= NEW then succeeded_retries[#succeeded_retries + 1] = id end", "",
    ),
    Mutation(
        "recovery also returns the settled tasks of a claim", "recover",
        "type(item) == 'string' and string.sub(open, place, place) ~= SETTLED", "type(item) == 'string'",
    ),
    Mutation(
        "an agent's count of claimed tasks does not go down when it settles", "settle_and_claim",
        "held = held - settled", "held = held + 0",
    ),
    Mutation(
        "a call of a fenced actor is executed", "prelude",
        "if not record[1] or record[3] then return {'lost'} end", "if not record[1] then return {'lost'} end",
    ),
    Mutation(
        "the same call is executed twice", "prelude",
        "if number == last then return {'again', record[2] or ''} end", "",
    ),
    Mutation(
        "a late copy of an earlier call is executed", "prelude",
        "if number < last then return {'stale'} end", "",
    ),
    Mutation(
        "allot pushes tasks without counting them in the same step", "allot",
        ",\n    'cursor', string.format('%d', cursor + taken))", ")",
    ),
    Mutation(
        "a superseded server allots", "allot",
        "if (meta[1] or '') ~= ARGV[1] then", "if false then",
    ),
    Mutation(
        "allot accepts a count that is not the present one", "allot",
        "if tonumber(counters[1] or '0') ~= tonumber(ARGV[3]) then return {'moved', counters[1] or '0'} end", "",
    ),
    Mutation(
        "allot pushes above the capacity", "allot",
        "local places = math.max(0, tonumber(counters[2]) - waiting)", "local places = items",
    ),
    Mutation(
        "allot pushes above the limit of undrained results", "allot",
        "elseif results >= tonumber(meta[2]) then", "elseif false then",
    ),
    Mutation(
        "an actor is recovered while its lease is valid", "recover",
        "if not record[1] and lease and tonumber(lease) > now then return {'alive'} end", "",
    ),
    Mutation(
        "recovery does not mark the actor dead", "recover",
        "  redis.call('HSET', KEYS[1], 'dead', '1')\n", "",
    ),
    Mutation(
        "recovery does not count the crash", "recover",
        "crashes_of(item) + 1)", "crashes_of(item))",
    ),
    Mutation(
        "a recovered task is claimed together with other tasks", "settle_and_claim",
        "if alone or bytes >= max_bytes or (state == CRASHED_BEFORE and #items + held + held_elsewhere > 0) then",
        "if alone or bytes >= max_bytes then",
    ),
    Mutation(
        "a recovered task is claimed beside tasks of another channel", "settle_and_claim",
        "#items + held + held_elsewhere > 0", "#items + held > 0",
    ),
    Mutation(
        "an agent is told that tasks wait in a paused channel", "settle_and_claim",
        "desired[i - first + 1] == 'paused' and 0 or redis.call('LLEN', KEYS[20 + i])",
        "redis.call('LLEN', KEYS[20 + i])",
    ),
    Mutation(
        "a recoverer is not told that the actor has claims in other channels", "recover",
        "elsewhere[#elsewhere + 1] = (i - 13) / 2 end", "end",
    ),
    Mutation(
        "a dead agent still counts in the other channels", "recover",
        "for i = 15, #KEYS, 2 do redis.call('ZREM', KEYS[i], ARGV[1]) end\n", "",
    ),
    Mutation(
        "an agent that left in order loses its lease although it has claims", "leave",
        "held = held + redis.call('HLEN', KEYS[i + 1])", "redis.call('HLEN', KEYS[i + 1])",
    ),
    Mutation(
        "a heartbeat does not leave channels", "heartbeat",
        "    redis.call('ZREM', KEYS[i], ARGV[1])\n", "",
    ),
    Mutation(
        "an agent may name a channel that does not exist", "join",
        "if tonumber(ARGV[3]) >= tonumber(meta[2]) then return {'channel', meta[2]} end", "",
    ),
    Mutation(
        "a new run keeps the channels that were assigned to devices", "open_run",
        "KEYS[7], KEYS[8], KEYS[10])", "KEYS[7], KEYS[8])",
    ),
    Mutation(
        "a fresh run with fewer channels keeps the agents of the others", "open_run",
        "local kept = i <= base + new * per and (i - base) % per == 13", "local kept = (i - base) % per == 13",
    ),
    Mutation(
        "other tasks are claimed behind a recovered task", "settle_and_claim",
        "      alone = state == CRASHED_BEFORE\n", "",
    ),
    Mutation(
        "a handed-back task counts a crash, although it had not started", "settle_and_claim",
        "handed_back[#handed_back + 1] = item",
        "handed_back[#handed_back + 1] = with_counts(item, attempt_of(item), crashes_of(item) + 1)",
    ),
    Mutation(
        "a crash uses up a retry", "recover",
        "with_counts(item, attempt_of(item), crashes_of(item) + 1)",
        "with_counts(item, attempt_of(item) + 1, crashes_of(item) + 1)",
    ),
    Mutation(
        "an agent takes a device whose agent still reports", "join",
        "if lease and not dead and ARGV[6] ~= '1' and tonumber(lease) > now then", "if false then",
    ),
    Mutation(
        "a server takes a namespace whose server still reports", "open_run",
        "if lease and not dead and ARGV[4] ~= '1' and tonumber(lease) > now then", "if false then",
    ),
    Mutation(
        "the replaced agent is not marked dead", "join",
        "  redis.call('HSET', KEYS[5], 'dead', '1')\n", "",
    ),
    Mutation(
        "a reload keeps the counts of retries and crashes", "reload",
        "items[#items + 1] = with_counts(item, 0, 0)", "items[#items + 1] = item",
    ),
    Mutation(
        "leases do not start again after Redis was away", "sweep",
        "local live = afresh and redis.call", "local live = false and redis.call",
    ),
    Mutation(
        "a lease that ended while Redis may have been away is judged at once", "sweep",
        "math.min(now, swept + DUE)", "now",
    ),
    Mutation(
        "a task that is retried at once goes behind the waiting tasks", "settle_and_claim",
        "requeue_first(retried, 1)", "call_in_pieces('RPUSH', KEYS[4], retried)",
    ),
    Mutation(
        "a delayed task comes back behind the waiting tasks", "promote",
        "call_in_pieces('LPUSH', KEYS[2], last_first)", "call_in_pieces('RPUSH', KEYS[2], items)",
    ),
    Mutation(
        "a task's own retries do not count", "settle_and_claim",
        "option_of(item, 'r') or policy.times", "policy.times",
    ),
    Mutation(
        "an error that is never retried is retried", "settle_and_claim",
        "policy.never ~= '-' and is_any_of", "false and is_any_of",
    ),
    Mutation(
        "a task that gives up runs again", "settle_and_claim",
        "if mode == GIVE_UP then", "if false then",
    ),
    Mutation(
        "an item with a delay waits at once", "allot",
        "local delay = option_of(ARGV[i], 'd')", "local delay = nil",
    ),
    Mutation(
        "a rate holds no task back", "settle_and_claim",
        "wanted = math.min(wanted, allowed)", "",
    ),
    Mutation(
        "tasks that are handed back use up the rate", "settle_and_claim",
        "allowed_ms = allowed_ms - #handed_back * interval", "",
    ),
    Mutation(
        "agents are woken for tasks that the rate holds back", "settle_and_claim",
        "and tokens == 0 and limited_ms == 0", "and tokens == 0",
    ),
    Mutation(
        "a traceback stays after its last use", "prelude",
        "redis.call('HINCRBY', uses_key, map.trace, -1) <= 0", "false",
    ),
    Mutation(
        "a claim of large bodies has no limit", "prelude",
        "return NEW, size_of(item)", "return NEW, #item", (*PROTOCOL, "tests/protocol/test_bodies.py"),
    ),
    Mutation(
        "the body of a task goes although its settlement may have been refused",
        "worker_agent/protocol/task_bodies.py",
        " and not refused", "", ("tests/protocol/test_bodies.py",),
    ),
    Mutation(
        "an agent is not told that Redis lost its calls", "settle_and_claim",
        "if number > last + 1 then return {'gap'} end", "",
    ),
    Mutation(
        "an agent keeps its claims in Redis although Redis lost its calls", "worker_agent/agent/claim_loop.py",
        "if isinstance(lost, WritesLost):", "if False:", CRASHES,
    ),
    Mutation(
        "a server with nothing left to feed does not check whether Redis lost writes",
        "mutitask_tui/server/allotter.py",
        "if count < pushed:", "if False:", CRASHES,
    ),
    Mutation(
        "the server does not check whether agents on its machine are gone", "mutitask_tui/server/supervisor.py",
        "if identity in gone]:", "if False]:", CRASHES,
    ),
    Mutation(
        "an agent claims ahead while it runs a recovered task", "worker_agent/execution/in_flight.py",
        "if self.slots == 0 or self._holds_recovered_task():", "if self.slots == 0:", AGENT,
    ),
    Mutation(
        "a woken server takes the namespace from its successor", "mutitask_tui/server/core.py",
        "            if isinstance(error, Superseded):\n                raise error\n", "", CRASHES,
    ),
    Mutation(
        "the body of a task that failed is removed", "worker_agent/protocol/task_bodies.py",
        "if key is not None and outcome in (DONE, SAVED) and not refused:", "if key is not None and not refused:",
        BODIES,
    ),
    Mutation(
        "a body of another size than its item says is run", "worker_agent/protocol/bodies.py",
        "if body is not None and len(body) == wanted[key]:", "if body is not None:", BODIES,
    ),
    Mutation(
        "an edited task's body has the name of the old one", "worker_agent/protocol/bodies.py",
        "return secrets.token_hex(8)", 'return "edited"', BODIES,
    ),
    Mutation(
        "a result that Redis has no memory for is settled without its body", "worker_agent/protocol/task_bodies.py",
        "if key not in refused:", "if True:", BODIES,
    ),
    Mutation(
        "the bodies of drained results stay", "worker_agent/protocol/broker.py",
        "        self.bodies.unlink(bodies)\n", "", BODIES,
    ),
    Mutation(
        "a resumed feed takes its large items for another generator's", "mutitask_tui/server/feed.py",
        "return mark in (digest(packed), digest(small_form(packed)))", "return mark == digest(packed)", BODIES,
    ),
    Mutation(
        "the sweep removes a body that waits for its push", "mutitask_tui/server/body_sweep.py",
        " if number < cursors[channel]}", "}", BODIES,
    ),
    Mutation(
        "the sweep removes a result whose settlement is on its way", "mutitask_tui/server/body_references.py",
        "            self._keep_all_of(channel, [item[_ID] for item in items])\n", "", BODIES,
    ),
    Mutation(
        "the sweep removes a body whose edit is on its way", "mutitask_tui/server/body_references.py",
        "            self._keep_all_of(channel, list(tasks))\n", "", BODIES,
    ),
    Mutation(
        "the sweep removes a body at the first pass without a name", "mutitask_tui/server/body_sweep.py",
        "PASSES = 3", "PASSES = 1", BODIES,
    ),
    Mutation(
        "a server that was replaced removes its successor's bodies", "mutitask_tui/server/body_sweep.py",
        "        # After the scan: the bodies of another run that began since then are not among those found.\n"
        "        if self._held_run() != run:\n            return\n", "", BODIES,
    ),
)  # fmt: skip


def caught_by(mutation: Mutation, copy: Path) -> str:
    """Return the first test that fails with the mutation, or ''."""
    file = copy / mutation.path
    before = file.read_text()
    if before.count(mutation.text) != 1:
        raise SystemExit(f"{mutation.path} does not contain this text exactly once: {mutation.text}")
    file.write_text(before.replace(mutation.text, mutation.by))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation.tests],
            cwd=copy, env=environment({"PYTHONPATH": copy, "HYPOTHESIS_PROFILE": "first-failure"}),
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    finally:
        file.write_text(before)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+?::[^\s\[]+)", run.stdout, re.MULTILINE)
    if run.returncode not in (0, 1) or (run.returncode == 1 and not failed):
        raise SystemExit(run.stdout + run.stderr)
    return failed[0] if failed else ""


def main() -> None:
    """Try each mutation and print the test that caught it."""
    words = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not words or any(word in f"{m.path}: {m.what}" for word in words)]
    print("| without the guard | where | caught by |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutitask-mutations-") as directory:
        copy = Path(directory) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "*cache*", "screenshots"))
        for mutation in chosen:
            test = caught_by(mutation, copy)
            file, _, name = test.rpartition("/")[2].partition("::")
            print(f"| {mutation.what} | `{mutation.path.rpartition('/')[2]}` | "
                  f"{f'`{file}`: `{name}`' if test else '**nothing**'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
