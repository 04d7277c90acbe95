"""For any bytes, each decoder returns a value or raises the one exception that it documents.

CI tries some tens of thousands of inputs. `MUTITASK_FUZZ=long pytest tests/security/test_fuzzing.py` tries a million.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutitask_tui.server.commands.devices import parse_answer
from mutitask_tui.server.device_views import DeviceViews
from mutitask_tui.server.exports import failed_line
from mutitask_tui.server.inspector import editable_json, result_view, waiting_task
from mutitask_tui.server.reader import parse_failed, parse_result
from mutitask_tui.server.result_lines import result_line, result_lines
from mutitask_tui.server.snapshot_parser import event_views, parse_history_line, server_view
from tests.security.fuzzing import (
    ITEMS,
    LONG,
    REASONS,
    REPORTS,
    RESULTS,
    SCRAPS,
    SEEDS,
    budget,
    mutations,
    noise,
)
from worker_agent.execution.in_flight import text_of
from worker_agent.execution.runner import Runner
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.bodies import Bodies, apart_form
from worker_agent.protocol.calls import successor_text
from worker_agent.protocol.connection.address import (
    ServerFile,
    build_url,
    dump_server_file,
    load_server_file,
    read_server_file,
    redact,
    resolve,
    server_file,
)
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import MutiTaskError, RedisRefused
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.reasons import Reason, error_location, read_reasons

if LONG:
    pytestmark = pytest.mark.timeout(0)

Decoder = Callable[[bytes], Any]


def unpacks(data: bytes) -> None:
    try:
        wire.unpack(data)
    except wire.Undecodable as error:
        assert str(error)


def parses(data: bytes) -> None:
    try:
        item = list_item.parse(data)
    except wire.Undecodable:
        return
    plain = list_item.header(item.run, item.number, item.attempt, item.crashes)
    if item.apart is not None:
        rest = apart_form(item.apart.size, item.apart.ending)
        assert data.startswith(plain[:-1]) and data.endswith(rest) and list_item.is_apart(data)
        assert Bodies(None, "t", "here").keys(0, [data]) != []
    elif item.options == list_item.Options():
        assert plain + item.body == data or data[25:27] == b"o;"
    else:
        assert data.startswith(plain[:-1]) and data.endswith(list_item.INLINE + item.body)


def reads_reasons(data: bytes) -> None:
    for found in read_reasons(data):
        assert isinstance(found, Reason)
        assert type(found.at_ms) is int and isinstance(found.message, str)


def shows_a_failed_task(item: bytes) -> None:
    for why in (b"", REASONS[0], item):
        record = parse_failed(0, "id", 5, item, why)
        json.loads(failed_line(record))
        editable_json(record)
        error_location(record.view.traceback, record.view.error)
        record.view.task.encode("utf-8", "surrogatepass")


def shows_a_waiting_task(item: bytes) -> None:
    shown = waiting_task(item)
    assert len(shown.task) <= 2_000
    text_of(item).encode()


def shows_a_result(item: bytes) -> None:
    result = parse_result(0, item)
    line = result_line(0, result)
    json.loads(line)
    assert result_lines(0, [item]) == line + "\n"
    assert len(result_view(result).result) <= 2_000


def shows_a_device(report: bytes) -> None:
    fleet, actor = {b"devices": b"1"}, {b"0": b"a0-1"}
    for leases in ({}, {b"a0-1": 9e15}):
        (device,) = DeviceViews().update(fleet, leases, actor, {b"0": report}, {}, 1_700_000_000_000)  # type: ignore[arg-type]
        for number in (device.pid, device.channel, device.running, device.done, device.errors):
            assert type(number) is int
        assert device.seen_s is None or device.seen_s >= 0


def shows_an_event(text: bytes) -> None:
    for entry in (text, b"1700000000000" + text):
        for event in event_views([entry]):
            assert type(event.at_ms) is int and isinstance(event.text, str) and len(event.text) <= 500


def shows_the_server(record: bytes) -> None:
    view = server_view({b"server": b"s", b"server_record": record}, {b"s": 9e15}, 5, {})  # type: ignore[dict-item]
    assert view is not None and isinstance(view.host, str)
    assert isinstance(successor_text(record), str)


def answers_a_detect(data: bytes) -> None:
    told = parse_answer(data)
    assert told is None or (type(told[0]) is int and type(told[1]) is str)


def reads_history(line: bytes) -> None:
    numbers = parse_history_line(line)
    assert numbers is None or len(numbers) == 8


def runs(item: bytes) -> None:
    """Run a claimed item. The scripts pass only items with a header."""
    settlement, _ = RUNNER.run(list_item.header("run12345", 7) + item, 0)
    assert settlement[:1] in (b"d", b"x", b"f")


RUNNER = Runner(lambda _channel: (lambda task: 1, None), 0)

SERVER_RECORDS = [wire.pack({"host": "h", "pid": 7, "since_ms": 5, "boot": "b", "start": 3, "actor": "s-1"})]
HISTORY = [b"1700000000000 5 50 1 20 3 29 29"]

DECODERS: list[tuple[Decoder, list[bytes], int, int]] = [
    (unpacks, SEEDS, 300, 9_000),
    (parses, ITEMS, 150, 4_500),
    (reads_reasons, REASONS, 150, 4_500),
    (shows_a_failed_task, ITEMS, 150, 3_500),
    (shows_a_waiting_task, ITEMS, 150, 4_000),
    (shows_a_result, RESULTS, 150, 4_000),
    (shows_a_device, REPORTS, 150, 4_000),
    (shows_an_event, [wire.pack(["info", "Device0", "ä text"])], 100, 2_700),
    (shows_the_server, SERVER_RECORDS, 100, 2_700),
    (answers_a_detect, [wire.pack([3, "running"])], 100, 2_700),
    (reads_history, HISTORY, 100, 2_700),
    (runs, SEEDS, 150, 3_500),
]


@pytest.mark.parametrize(
    ("decoder", "seeds", "short", "long"), DECODERS, ids=lambda v: getattr(v, "__name__", "")
)
def test_no_bytes_make_a_decoder_raise_an_undocumented_exception(
    decoder: Decoder, seeds: list[bytes], short: int, long: int
) -> None:
    for known in (*seeds, *SEEDS, *SCRAPS):
        decoder(known)

    @budget(short, long)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        decoder(data.draw(noise))
        for mutant in mutations(data.draw(st.sampled_from(seeds)), data):
            decoder(mutant)

    fuzz()


# Addresses and the server file

SECRET = "s3cr3t-[x]/@:"
schemes = st.sampled_from(
    ["redis://", "rediss://", "unix://", "redis+sentinel://", "REDIS://", "//", "", "x://"]
)
awkward = st.text(st.sampled_from("ab/@:?#[]%&=,.\\ \t\n\x00ä0-9"), max_size=12)


@budget(600, 20_000)
@given(schemes, awkward, awkward, awkward)
def test_any_address_is_shown_without_its_password(scheme: str, user: str, host: str, tail: str) -> None:
    for password in (SECRET, "Geheim7Geheim"):
        for url in (
            f"{scheme}{user}:{password}@{host}/{tail}",
            f"{scheme}{user}{password}@{host}{tail}",
            f"{scheme}{user}:{password}@{host}:6379/0?{tail}",
        ):
            shown = redact(url)
            # The password ends at the last @. Only the text after it might look like another password.
            assert password not in shown, (url, shown)


@budget(500, 8_000)
@given(schemes, awkward, awkward)
def test_an_address_that_cannot_be_used_is_refused_with_a_message(scheme: str, host: str, tail: str) -> None:
    for url in (f"{scheme}{host}{tail}", f"{scheme}u:Geheim7@{host}/{tail}", f"{scheme}{host}?db={tail}"):
        try:
            connect(url).close()
        except RedisRefused as error:
            assert "Geheim7" not in str(error)
        assert isinstance(redact(url), str)
        assert resolve(url or "redis://h", "n") == (url or "redis://h", True)


@budget(200, 4_000)
@given(st.text(min_size=1), st.text(min_size=1))
def test_no_character_of_a_password_is_lost_or_shown(user: str, password: str) -> None:
    url = build_url("h", 1, username=user, password=password)
    with connect(url) as client:
        if not re.search("[\ud800-\udfff]", user + password):
            given_ = client.connection_pool.connection_kwargs
            assert (given_["username"], given_["password"]) == (user, password)
    assert redact(url) == "h:1/0"


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "n" / "server.json"


NOTE = dump_server_file(
    ServerFile("redis://u:p@127.0.0.1:6379/0", "127.0.0.1", 6379, "u", "p", this_process())
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@budget(100, 3_000)
@given(st.data())
def test_a_damaged_server_file_is_refused_with_a_message(note: Path, data: st.DataObject) -> None:
    os.environ["MUTITASK_STATE_DIR"] = str(note.parents[1])
    note.parent.mkdir(mode=0o700, exist_ok=True)
    changed = json.loads(NOTE) | data.draw(
        st.dictionaries(st.sampled_from(list(json.loads(NOTE))), values, max_size=3)
    )
    for content in (*mutations(NOTE, data)[:4], data.draw(noise), json.dumps(changed).encode()):
        note.touch(0o600)
        note.write_bytes(content)
        try:
            record = load_server_file(note)
        except MutiTaskError as error:
            assert "server.json" in str(error)
        else:
            assert record is not None and type(record.port) is int and type(record.process.pid) is int
        try:
            url = read_server_file("n")
            assert url is None or (isinstance(url, str) and resolve(None, "n") == (url, True))
        except MutiTaskError:
            pass
    assert server_file("n") == note


def test_json_bombs_in_the_server_file_are_refused(note: Path) -> None:
    note.parent.mkdir(mode=0o700, exist_ok=True)
    for bomb in (b"[" * 60_000, b'{"a":' * 12_000, b'{"port": ' + b"9" * 50_000 + b"}", b'{"pid": 1e999}'):
        note.touch(0o600)
        note.write_bytes(bomb)
        with pytest.raises(MutiTaskError, match="does not hold a server's address"):
            load_server_file(note)
