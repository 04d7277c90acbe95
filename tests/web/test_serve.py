"""The command line `mutitask serve`: its password, its port, and its errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mutitask_tui.web.settings import ServeError, find_password, is_loopback
from tests.cli.tools import Stack, mutitask
from tests.support.programs import Program
from tests.web.web_site import PASSWORD, WebSite


def test_a_new_password_is_printed_with_its_link(
    stack: Stack, spawn: Callable[..., Program], wait_until: Callable[..., object]
) -> None:
    program = spawn(
        ["mutitask", "serve", "--name", stack.name, "--port", "0"], {"MUTITASK_REDIS_URL": stack.url}
    )
    site = WebSite(program, wait_until)
    link = re.search(rf"log in with this link: {site.url}\?token=(\S+)", program.stderr)
    assert link and len(link[1]) >= 32
    assert program.stderr.count(link[1]) == 2
    assert stack.url.partition("@")[0].rpartition(":")[2] not in program.stderr


def test_a_password_from_the_environment_is_not_printed(serve: Callable[..., WebSite]) -> None:
    site = serve()
    assert PASSWORD not in site.program.stderr + site.program.stdout
    assert PASSWORD not in Path(f"/proc/{site.program.pid}/cmdline").read_text()


def test_the_password_comes_from_the_file_the_environment_or_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n")
    monkeypatch.setenv("MUTITASK_SERVE_PASSWORD", "from the environment")
    assert find_password(file) == ("from a file", False)
    monkeypatch.setenv("MUTITASK_SERVE_PASSWORD", "from the environment")
    assert find_password(None) == ("from the environment", False)
    assert "MUTITASK_SERVE_PASSWORD" not in os.environ
    new, is_new = find_password(None)
    assert is_new and len(new) >= 32 and new != find_password(None)[0]
    for text, says in (("", "is empty"), ("short", "too short")):
        file.write_text(text)
        with pytest.raises(ServeError, match=says):
            find_password(file)
    with pytest.raises(ServeError, match="cannot be read"):
        find_password(tmp_path / "nothing")


def test_loopback_hosts_are_recognised() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil.example", ""))
    )


def test_a_port_in_use_is_reported_in_one_sentence(
    serve: Callable[..., WebSite], stack: Stack, spawn: Callable[..., Program]
) -> None:
    site = serve()
    line = ["mutitask", "serve", "--name", stack.name, "--port", str(site.port)]
    program = spawn(line, {"MUTITASK_REDIS_URL": stack.url})
    assert program.wait() == 2
    assert f"cannot listen on 127.0.0.1:{site.port} (" in program.stderr
    assert "Traceback" not in program.stderr


def test_a_missing_namespace_is_not_served(redis_url: str) -> None:
    result = mutitask("serve", "--redis", redis_url, "--name", "nobody")
    assert result.status == 1 and "nothing runs in namespace 'nobody'" in result.stderr


def test_without_textual_serve_the_error_says_what_to_install(
    redis_url: str, stack: Stack, spawn: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "textual_serve").mkdir()
    (tmp_path / "textual_serve" / "__init__.py").write_text("raise ImportError('not here')\n")
    line = [
        sys.executable,
        "-c",
        "from mutitask_tui.cli.main import main; main()",
        "serve",
        "--name",
        stack.name,
    ]
    env = {"MUTITASK_REDIS_URL": redis_url, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    ended = subprocess.run(line, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert ended.stderr == "mutitask: serve needs textual-serve: pip install 'mutitask[serve]'\n"
