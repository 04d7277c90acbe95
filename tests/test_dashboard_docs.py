"""`docs/dashboard.md` and `docs/configuration.md` say what the code says."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS
from mutitask_tui.dashboard.keys.keymap import default_keys, view_name
from mutitask_tui.server.commands.registry import COMMANDS
from mutitask_tui.settings.config_file import parse
from tests.support.programs import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", ["dashboard.md", "configuration.md"])
def test_the_tables_are_what_the_code_says(page: str) -> None:
    made = runpy.run_path(str(DOCS / "make_dashboard.py"))["made"](page)
    assert made == (DOCS / page).read_text(encoding="utf-8"), "run `python docs/make_dashboard.py`"


def test_every_command_and_key_is_in_dashboard_md() -> None:
    text = (DOCS / "dashboard.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"`{command.usage}`" in text
    for binding in VIEW_BINDINGS:
        assert binding.tooltip in text


def test_every_name_that_has_a_key_is_in_configuration_md() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for name in (*default_keys(), *map(view_name, VIEW_BINDINGS)):
        assert f"| `{name}` |" in text


def test_the_example_is_a_config_that_works() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    config, _ = parse(example, Path("config.toml"))
    assert config.keys["pause_all"] == tomllib.loads(example)["keys"]["pause_all"] == "ctrl+p"


def test_links_lead_somewhere() -> None:
    for page in ("dashboard.md", "configuration.md"):
        for link in re.findall(r"\]\(([^)#:]+)", (DOCS / page).read_text(encoding="utf-8")):
            assert (DOCS / link).exists(), f"{page}: {link}"
