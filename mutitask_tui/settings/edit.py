"""Changes one value in a config file's text, and leaves every other character as it stands."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from mutitask_tui.settings.config_file import ConfigError, parse, read_text
from worker_agent.protocol.pristine import json

_HEAD = "# MutiTask's dashboard. `mutitask config` shows every setting and what it is now.\n"
_HEADER = re.compile(r"\s*\[+\s*([^]#]+?)\s*\]+\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(
    r"""(?P<before>\s*(?P<key>[\w.\-"' ]+?)\s*=\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s#][^#]*?)(?P<after>\s*(?:\#.*)?)$"""
)


def remember(path: Path, changes: dict[str, Any]) -> None:
    """Write the changed settings (`theme`, `layout.density`) into the file, or make it.

    The file is read anew: what others wrote into it meanwhile stays. One that cannot be read, or that holds
    something wrong, is not touched. Raises `ConfigError`.
    """
    text = read_text(path)
    if text is not None:
        parse(text, path)
    new = _HEAD if text is None else text
    for name, value in changes.items():
        new = with_value(new, name, value)
    _check(new, changes, path)
    if new != text:
        _replace(path, new)


def with_value(text: str, name: str, value: Any) -> str:
    """`text` with that setting changed, or added where it is missing."""
    newline = "\r\n" if "\r\n" in text else "\n"
    section, _, key = name.rpartition(".")
    lines = text.splitlines()
    written = _toml(value)
    current, last, header = "", -1, -1
    for place, line in enumerate(lines):
        if found := _HEADER.match(line):
            current = _bare(found[1])
            header = place if current == section else header
            last = place if current == section else last
            continue
        if not (found := _ASSIGNMENT.match(line)):
            continue
        own = _bare(found["key"])
        if ".".join(filter(None, (current, own))) == name:
            lines[place] = f"{found['before']}{written}{found['after']}"
            return newline.join(lines) + newline
        if current == section:
            last = place
    if section and header < 0:
        lines += [*([""] if lines and lines[-1].strip() else []), f"[{section}]", f"{key} = {written}"]
    else:
        lines.insert(last + 1 if last >= 0 else _after_head(lines), f"{key} = {written}")
    return newline.join(lines) + newline


def _after_head(lines: list[str]) -> int:
    """Behind the comment at the top, where it is the file's and not the first section's."""
    place = 0
    while place < len(lines) and lines[place].lstrip().startswith("#"):
        place += 1
    return place if place == len(lines) or not lines[place].strip() else 0


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else str(value)


def _bare(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _check(text: str, changes: dict[str, Any], path: Path) -> None:
    """The new text must hold just what was asked for: an unusual spelling may have led the edit astray."""
    with contextlib.suppress(tomllib.TOMLDecodeError, ConfigError):
        parse(text, path)
        data = tomllib.loads(text)
        if all(_look_up(data, name) == value for name, value in changes.items()):
            return
    names = ", ".join(changes)
    raise ConfigError(
        f"{path} is written in a way that keeps {names} from being changed in place: change it there"
    )


def _look_up(data: Any, name: str) -> Any:
    for part in name.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _replace(path: Path, text: str) -> None:
    """All of the new file or all of the old one, whatever happens; a link stays a link."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ConfigError(f"{path} is no plain file: nothing was written")
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}): what was changed is not remembered"
        ) from None
