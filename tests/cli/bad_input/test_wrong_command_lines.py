"""Commands of `mutitask ctl` that do not exist, are wrong or impossible, and options that click refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bad_input.rows import HELD, Row, Servers, expect_refusal
from tests.support.programs import Program

ROWS = [
    Row(
        "no such command",
        f"mutitask ctl pause_on 0 {HELD}",
        2,
        r"no command is called 'pause_on'; did you mean pause_one\?",
        process=True,
    ),
    Row(
        "nothing like a command",
        f"mutitask ctl zzz {HELD}",
        2,
        r"no command is called 'zzz'; `help` lists them",
    ),
    Row("an argument is missing", f"mutitask ctl pause_one {HELD}", 2, r"usage: pause_one N"),
    Row("an argument too many", f"mutitask ctl pause_all 1 {HELD}", 2, r"usage: pause_all"),
    Row(
        "a word for a number",
        f"mutitask ctl pause_one first {HELD}",
        2,
        r"N must be a whole number of 0 or more, not 'first'",
    ),
    Row(
        "a number below 0",
        f"mutitask ctl pause_one -1 {HELD}",
        2,
        r"N must be a whole number of 0 or more, not '-1'",
    ),
    Row("a capacity of 0", f"mutitask ctl reset_max_task 0 {HELD}", 2, r"N must be 1 or more"),
    Row(
        "a capacity beyond all",
        f"mutitask ctl reset_max_task 99999999999999999999 {HELD}",
        2,
        r"N must be at most 1,000,000,000",
    ),
    Row(
        "no such device",
        f"mutitask ctl pause_one 9 {HELD}",
        2,
        r"there is no Device9; there is Device0 to Device2",
    ),
    Row(
        "no such device to detect",
        f"mutitask ctl detect_one 9 {HELD}",
        2,
        r"there is no Device9; there is Device0 to Device2",
    ),
    Row(
        "no such channel",
        f"mutitask ctl pause_channel 9 {HELD}",
        2,
        r"there is no TaskChannel9; there is TaskChannel0 to TaskChannel1",
    ),
    Row("no agent to stop", f"mutitask ctl stop_one 2 {HELD}", 2, r"Device2 has no agent that could stop"),
    Row(
        "nothing to skip",
        f"mutitask ctl skip_item 0 {HELD}",
        2,
        r"TaskChannel0's feed has not stopped at an item",
    ),
    Row(
        "no such task to reload",
        f"mutitask ctl reload_one_fail_task 0 999 {HELD}",
        2,
        r"task 999 is no longer there in FailChannel0",
    ),
    Row(
        "no such task to delete",
        f"mutitask ctl delete_one_fail_task 1 7 {HELD}",
        2,
        r"task 7 is no longer there in FailChannel1",
    ),
    Row(
        "no such task to edit",
        f"mutitask ctl edit_fail_task 0 999 1 {HELD}",
        2,
        r"task 999 is no longer there in FailChannel0",
    ),
    Row(
        "not JSON",
        f"mutitask ctl edit_fail_task 0 7 {{{{oops {HELD}",
        2,
        r"not valid JSON \(.*\): text stands in double quotes, such as \"text\"",
    ),
    Row(
        "a command of the dashboard",
        f"mutitask ctl detach {HELD}",
        2,
        r"detach belongs to a dashboard: press its key there",
    ),
    Row(
        "a device with an agent is not removed",
        "mutitask ctl del_device --redis {url} --name live",
        2,
        r"Device0 has an agent; stop it first with `stop_one 0`",
    ),
    Row(
        "a device with an agent is not purged",
        "mutitask ctl purge_device 0 --redis {url} --name live",
        2,
        r"Device0 has an agent; only an offline device can be purged",
    ),
    Row(
        "no device to detect",
        "mutitask ctl detect_all --redis {url} --name bare",
        2,
        r"there is no device yet: add_device makes one, or start a worker-agent",
    ),
    Row(
        "no device to remove",
        "mutitask ctl del_device --redis {url} --name bare",
        2,
        r"there is no device left to remove",
    ),
    Row("no such option", "mutitask run {job} --nonsense", 2, r"No such option '?--nonsense'?"),
    Row(
        "devices below 0",
        "mutitask run {job} --devices -1",
        2,
        r"Invalid value for '--devices': -1 is not in the range",
    ),
    Row(
        "a device that is not a number",
        "worker-agent {job} --device first",
        2,
        r"'first' is neither a device's number nor 'auto'",
        process=True,
    ),
    Row(
        "more retries than the most",
        "mutitask run {job} --retries 99",
        2,
        r"Invalid value for '--retries': 99 is not in the range",
    ),
    Row(
        "a retry delay above a week",
        "mutitask run {job} --retry-delay 700000",
        2,
        r"Invalid value for '--retry-delay': 700000.0 is not in the range",
    ),
    Row(
        "a retry delay that is no number",
        "mutitask run {job} --retry-delay nan",
        2,
        r"delay of Retry must be a number from 0 to 604,800 seconds, not nan",
    ),
    Row(
        "a factor that shrinks",
        "mutitask run {job} --retry-factor 0.5",
        2,
        r"Invalid value for '--retry-factor': 0.5 is not in the range",
    ),
    Row(
        "a jitter above one",
        "mutitask run {job} --retry-jitter 1.5",
        2,
        r"Invalid value for '--retry-jitter': 1.5 is not in the range",
    ),
    Row(
        "a rate without a unit",
        "mutitask run {job} --rate 10",
        2,
        r"Invalid value for '--rate': a rate is a number of tasks per s, min or h, such as 10/s, 0.5/s or 90/min, "
        r"not '10'",
    ),
    Row("a rate of nothing", "mutitask run {job} --rate 0/s", 2, r"a rate is at least 0.01/h, not '0/s'"),
    Row("an unknown format", "mutitask results export --format xml", 2, r"'xml' is not"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_wrong_command_line_ends_with_its_sentence_and_status(
    row: Row, servers: Servers, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    expect_refusal(row, servers, spawn, tmp_path)
