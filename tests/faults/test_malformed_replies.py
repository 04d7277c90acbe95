"""A broken or hostile Redis: one sentence, limited memory and time, no traceback; one malformed reply loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest
import redis

from mutitask_tui.server.reader import Reader
from tests.cli.tools import Stack, mutitask, no_agents_left
from tests.protocol.tap import LUA
from tests.support.faulty_redis import Answer, FaultyRedis, large_reply, slow_reply
from tests.support.programs import Program
from tests.support.redis_server import RealServer
from tests.support.waiting import wait_until
from worker_agent.protocol import replies
from worker_agent.protocol.connection import guard
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.keys import Keys
from worker_agent.protocol.replies import check_script_reply

__all__ = ["no_agents_left"]

NAME = "lies"
MEGABYTE = 1024 * 1024

MALFORMED: dict[str, bytes] = {
    "ok": b"+OK\r\n", "nil": b"$-1\r\n", "nil3": b"_\r\n", "nil array": b"*-1\r\n", "float": b",1.5\r\n",
    "infinite": b",inf\r\n", "number": b":7\r\n", "text": b"$3\r\nabc\r\n", "true": b"#t\r\n", "nothing": b"*0\r\n",
    "list": b"*2\r\n$3\r\nabc\r\n:1\r\n", "ok and nothing": b"*1\r\n$2\r\nok\r\n", "lists": b"*3\r\n*0\r\n*0\r\n*0\r\n",
    "map": b"%1\r\n+a\r\n:1\r\n", "set": b"~1\r\n+a\r\n", "large number": b"(123456789012345678901234567890\r\n",
    "verbatim": b"=5\r\ntxt:a\r\n", "ok with texts": b"*5\r\n" + b"$2\r\nok\r\n" + 4 * b"$1\r\nx\r\n",
    "huge array": b"*1000000000\r\n", "huge in an array": b"*1\r\n*1000000000\r\n", "huge map": b"%1000000000\r\n",
    "huge set": b"~1000000000\r\n", "huge text": b"$2000000000\r\n", "push": b">2\r\n+a\r\n+b\r\n",
    "huge push": b">1000000000\r\n", "push in an array": b"*1\r\n>1000000000\r\n",
    "web": b"HTTP/1.1 400 Bad Request\r\n\r\n", "attribute": b"|1\r\n+a\r\n+b\r\n+OK\r\n",
    "zeros": bytes(64) + b"\r\n", "no number": b"$abc\r\n", "below": b"*-5\r\n",
}  # fmt: skip

OF_AGENTS = (
    "join", "heartbeat", "read_desired", "settle_and_claim", "sweep", "promote", "append_device_log",
    "leave", "append_event", "HGET", "TIME", "BLPOP",
)  # fmt: skip
OF_SERVERS = (
    "allot",
    "renew_server_lease",
    "sweep",
    "sample_counters",
    "append_event",
    "HMGET",
    "HVALS",
    "HGETALL",
    "BLPOP",
)
PLAUSIBLE = {"ok", "nil", "nil3", "nil array", "text", "verbatim", "large number"}
"""Valid values of a hash field. A server that gets one of them as its count ends with a sentence."""


@pytest.fixture
def behind(shared_server: RealServer, redis_url: str) -> Callable[[FaultyRedis], str]:
    """Return a function: the address of a faulty Redis in front of the real server."""
    return lambda faulty: redis_url.replace(f":{shared_server.port}/", f":{faulty.port}/")


@pytest.mark.parametrize("reply", MALFORMED)
def test_one_malformed_reply_to_each_call_of_an_agent_loses_nothing(
    shared_server: RealServer,
    redis_url: str,
    behind: Callable[[FaultyRedis], str],
    reply: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The agent sends the same call again, with the same number."""
    with (
        FaultyRedis(MALFORMED[reply], upstream_port=shared_server.port) as faulty,
        Stack(redis_url, NAME, iter(range(40)), devices=1, autostart=True, capacity=10) as stack,
    ):
        faulty.answer_wrongly(*OF_AGENTS)
        stack.url = behind(faulty)
        stack.agent(0, task_function=lambda task: task)
        stack.until(lambda s: s.channels[0].exhausted and s.channels[0].open == 0, 30)
        assert stack.channel().done == 40 and stack.channel().balanced
        assert {"join", "heartbeat", "settle_and_claim"} <= faulty.answered
        with connect(redis_url) as client:
            client.lpush(Keys(NAME).device_token(0), "1")
        wait_until(lambda: "read_desired" in faulty.answered, what="the agent reads its desired state")
    assert "Traceback" not in caplog.text and " failed (" not in caplog.text


@pytest.mark.parametrize("reply", MALFORMED)
def test_one_malformed_reply_to_each_call_of_a_server_loses_nothing(
    shared_server: RealServer, redis_url: str, behind: Callable[[FaultyRedis], str], reply: str
) -> None:
    with (
        FaultyRedis(MALFORMED[reply], upstream_port=shared_server.port) as faulty,
        Stack(behind(faulty), NAME, iter(range(40)), devices=1, autostart=True, capacity=10) as stack,
    ):
        stack.url, stack._reader = redis_url, Reader(redis_url, NAME)
        faulty.answer_wrongly(*OF_SERVERS, *(() if reply in PLAUSIBLE else ("HGET",)))
        stack.agent(0, task_function=lambda task: task)
        wait_until(
            lambda: (
                {"allot", "renew_server_lease", "sample_counters"} <= faulty.answered
                or stack.core.ended.is_set()
            ),
            15,
        )
        stack.until(
            lambda s: stack.core.ended.is_set() or (s.channels[0].exhausted and s.channels[0].open == 0), 30
        )
        assert not stack.core.ended.is_set(), stack.core.failure
        assert stack.channel().done == 40 and stack.channel().balanced


COMMANDS = ["status", "status --json", "ctl pause_all", "ctl detect_all", "ctl exit --yes", "results export",
            "results export --drain", "ctl export_fail_tasks -", "ctl skip_item 0"]  # fmt: skip


@pytest.mark.parametrize("greets", [True, False], ids=["greets", "does not greet"])
@pytest.mark.parametrize("reply", MALFORMED)
def test_every_command_ends_with_one_sentence(reply: str, greets: bool) -> None:
    with FaultyRedis(MALFORMED[reply], greets=greets) as faulty:
        for line in COMMANDS:
            said = mutitask(*line.split(), "--redis", f"redis://127.0.0.1:{faulty.port}/0", "--name", NAME)
            assert said.status in (1, 3, 6), (line, said)
            assert said.stdout == "" and said.stderr.count("\n") == 1, (line, said)
            assert "cannot be understood" not in said.stderr, (line, said)


ODD = ["ok", "nil3", "float", "ok with texts", "push", "huge push", "web"]


@pytest.mark.parametrize("reply", ODD)
@pytest.mark.parametrize(
    "program", ["mutitask run {job} --headless", "worker-agent {job}", "worker-agent {job} --debug"]
)
def test_programs_report_one_sentence(
    tmp_path: Path, spawn: Callable[..., Program], reply: str, program: str
) -> None:
    job = tmp_path / "job.py"
    job.write_text("def tasks(): yield 1\ndef task_function(t): return t\n")
    with FaultyRedis(MALFORMED[reply]) as faulty:
        started = spawn([*program.format(job=job).split(), "--redis", f"redis://127.0.0.1:{faulty.port}/0"])
        wait_until(lambda: "does not answer like Redis" in started.stderr or not started.running, 20)
        assert started.stderr.count("does not answer like Redis") == 1, started
        assert "Traceback" not in started.stderr
        if program.startswith("mutitask"):
            assert started.wait(20) == 3
        else:
            assert started.running and "waiting for a server" in started.stderr
            started.kill()


# Memory and time

FLOODS: dict[str, Answer] = {
    "a text of 2 GB": large_reply(b"$2000000000\r\n", bytes(MEGABYTE), 2000),
    "an error of 2 GB": large_reply(b"-ERR ", b"x" * MEGABYTE, 2000),
    "texts without end": large_reply(b"*900000\r\n", b"$1048576\r\n" + bytes(MEGABYTE) + b"\r\n", 3000),
    "pushes without end": large_reply(b"", b">2\r\n+a\r\n+b\r\n" * 10_000, 10_000),
    "a huge push": b">1000000000\r\n",
    "a huge array": b"*1000000000\r\n",
    "lists without end": large_reply(b"*900000\r\n", b"*0\r\n" * 100_000, 1000),
    "lists in lists": large_reply(b"", b"*1\r\n" * 100_000, 100),
    "zeros": large_reply(b"", bytes(MEGABYTE), 2000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_uses_no_more_memory_than_a_reply_may(flood: str) -> None:
    with FaultyRedis(FLOODS[flood]) as faulty:
        line = [sys.executable, "-c", "from mutitask_tui.cli.main import main; main()", "status", "--redis"]
        process = subprocess.Popen(
            [*line, f"redis://127.0.0.1:{faulty.port}/0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        text = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 3, text
        assert "does not answer like Redis" in text and text.count("\n") == 1
        assert usage.ru_maxrss < 500 * 1024, f"{usage.ru_maxrss} kB"


def test_a_reply_that_arrives_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "REPLY_S", 0.5)
    with FaultyRedis(slow_reply) as faulty:
        said = mutitask("status", "--redis", f"redis://127.0.0.1:{faulty.port}/0")
        assert said.status == 3 and "did not answer in time" in said.stderr


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_reply_in_pieces_is_read_as_a_whole_one(client: redis.Redis, size: int) -> None:
    whole = b"*5\r\n$2\r\nok\r\n:-12\r\n%1\r\n$1\r\na\r\n$0\r\n\r\n~1\r\n,1.5\r\n=7\r\ntxt:a\r\n\r\n_\r\n"
    guarded = guard.GuardedReader(hiredis.Reader(notEnoughData=None))
    for at in range(0, len(whole), size):
        guarded.feed(whole, at, min(size, len(whole) - at))
    assert guarded.gets() == hiredis_reply(whole)
    client.set("k", bytes(3 * MEGABYTE))
    mine = connect(f"redis://:{client.connection_pool.connection_kwargs['password']}@127.0.0.1:"
                   f"{client.connection_pool.connection_kwargs['port']}/0")  # fmt: skip
    assert mine.get("k") == bytes(3 * MEGABYTE)


@pytest.mark.parametrize("size", [1, 5, 64, 9_000])
def test_a_list_of_short_texts_in_pieces_is_read_as_a_whole_one(size: int) -> None:
    texts = [b"*" * (n % 40) + b"\r\n$3\r\n" for n in range(700)]
    whole = b"*700\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)
    guarded = guard.GuardedReader(hiredis.Reader(notEnoughData=None))
    for at in range(0, len(whole), size):
        guarded.feed(whole, at, min(size, len(whole) - at))
    assert guarded.gets() == texts


def test_short_texts_count_towards_the_most_elements_of_a_reply() -> None:
    texts = guard.ELEMENTS * 6 // 10
    guarded = guard.GuardedReader(hiredis.Reader(notEnoughData=None))
    guarded.feed(b"*2\r\n*%d\r\n" % texts + b"$1\r\nx\r\n" * texts)
    with pytest.raises(guard.ReplyTooLarge, match="elements"):
        guarded.feed(b"*%d\r\n" % texts)


def hiredis_reply(whole: bytes) -> object:
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(whole)
    return reader.gets()


def test_the_forms_of_replies_are_those_of_the_scripts() -> None:
    """Each documented status of a script has a form. The tests of the scripts check the replies against the forms."""
    for path in LUA.glob("*.lua"):
        name = path.stem
        if name == "prelude" or name in replies._WITHOUT_STATUS:
            continue
        head = path.read_text().partition("\n\n")[0].partition("-- Returns ")[2]
        documented = set(re.findall(r"\{'(\w+)'", head))
        known = {s.decode() for s in replies._STATUSES[name]} | (
            {"lost", "stale", "again"} if name in replies._NUMBERED else set()
        )
        assert documented <= known, name
    with pytest.raises(guard.MalformedReply):
        check_script_reply("renew_server_lease", [b"superseded"])
