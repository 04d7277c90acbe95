"""Namespaces that do not exist, hold work, have a server or speak another version."""

# ruff: noqa: E501 (each sentence is on one line, so that it can be searched for)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.bad_input.rows import HELD, Row, Servers, expect_refusal
from tests.support.programs import Program

ROWS = [
    Row(
        "status of nothing",
        "mutitask status --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at 127\.0\.0\.1:{port}/0: start it with `mutitask run JOB`, or name another with --name",
        process=True,
    ),
    Row(
        "results of nothing",
        "mutitask results export --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at ",
    ),
    Row(
        "ctl on nothing",
        "mutitask ctl pause_all --redis {url} --name none",
        1,
        r"nothing runs in namespace 'none' at ",
    ),
    Row(
        "results of no such channel",
        f"mutitask results export {HELD} --channel 9",
        2,
        r"there is no channel 9; the channels are 0 to 1",
    ),
    Row(
        "holds work",
        f"mutitask run {{two}} --headless {HELD}",
        5,
        r"namespace 'held' holds work \(6 waiting, 1 failed, 9 results\): pass --resume to continue with it, --fresh to drop it, or another --name",
        process=True,
    ),
    Row(
        "other channels",
        f"mutitask run {{job}} --headless --resume {HELD}",
        5,
        r"namespace 'held' has 2 channels and this job 1; resume it with the job that started it, or pass --fresh or another --name",
    ),
    Row(
        "a second server",
        "mutitask run {job} --headless --redis {url} --name live",
        4,
        r"namespace 'live' already has a server: \S+ pid \d+, since .*; open its dashboard with `mutitask attach --name live`, or take another --name",
        process=True,
    ),
    Row(
        "a second server with --fresh",
        "mutitask run {job} --headless --fresh --redis {url} --name live",
        4,
        r"namespace 'live' already has a server",
    ),
    Row(
        "a second agent",
        "worker-agent {job} --redis {url} --name live --device 0",
        4,
        r"Device0 already has an agent: \S+ pid \d+, since .*; choose another --device, or stop that agent",
        process=True,
    ),
    Row(
        "an agent's channel",
        "worker-agent {job} --redis {url} --name live --device 5 --channel 9",
        2,
        r"channel 9 does not exist: namespace 'live' has 1 channels, numbered from 0",
        process=True,
    ),
    Row(
        "an agent of another version",
        "worker-agent {job} --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 2\.0; let the older MutiTask finish its run, or update it too and choose another --name",
        process=True,
    ),
    Row(
        "a server of another version",
        "mutitask run {job} --headless --resume --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 2\.0; let the older MutiTask finish",
    ),
    Row(
        "ctl of another version",
        "mutitask ctl pause_all --redis {url} --name old",
        6,
        r"namespace 'old' speaks protocol 0\.9 and this program 2\.0; let the older MutiTask finish",
    ),
    Row(
        "attach without a terminal",
        "mutitask attach --redis {url} --name live",
        2,
        r"attach needs a terminal; `mutitask status` prints the same information once",
        process=True,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_namespace_in_the_wrong_state_ends_the_command_with_its_sentence_and_status(
    row: Row, servers: Servers, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    expect_refusal(row, servers, spawn, tmp_path)
