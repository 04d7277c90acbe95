"""Changes single values in the config file. Comments, order and spacing stay as they are."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutitask_tui.settings.config_file import ConfigError, parse, read_text

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

_FILE_HEAD = "# MutiTask's dashboard. `mutitask config` shows every setting and what it is now.\n"


def write_settings(path: Path, changes: dict[str, Any]) -> None:
    """Write changed settings (`theme`, `layout.density`) into the file, or create it.

    The file is read again first, so that changes by others stay. A file that cannot be read or that contains a
    mistake is not changed. Raises `ConfigError`.
    """
    text = read_text(path)
    if text is not None:
        parse(text, path)
    try:
        new = _FILE_HEAD if text is None else text
        for name, value in changes.items():
            new = with_value(new, name, value)
        _check(new, changes, path)
    except (
        Exception
    ) as error:  # tomlkit cannot read this valid file, or the new text is not what was asked for
        raise ConfigError(
            f"{path} is written in a form in which {', '.join(changes)} cannot be changed automatically: "
            "edit the file by hand"
        ) from error
    if new != text:
        _replace(path, new)


def with_value(text: str, name: str, value: Any) -> str:
    """Return `text` with the setting `name` changed, or added after the last setting of its section."""
    import tomlkit
    from tomlkit.items import Table

    document = tomlkit.parse(text if not text or text.endswith("\n") else f"{text}\n")
    section, _, key = name.rpartition(".")
    if section and section not in document:
        document.append(section, tomlkit.table().append(key, value))
    else:
        container: Any = document[section] if section else document
        if key in container or not isinstance(container, Table | tomlkit.TOMLDocument):
            container[key] = value
        else:
            _append(container, key, value)
    new = tomlkit.dumps(document)
    return new.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else new


def _append(container: TOMLDocument | Table, key: str, value: Any) -> None:
    """Add a setting after the last one of `container`.

    tomlkit adds it after the comments that follow, but those belong to the next section. So this function takes
    away what follows, appends, and puts it back. Afterwards the document can only be written.
    """
    from tomlkit.items import Comment, Table

    body = container.value.body if isinstance(container, Table) else container.body
    first_section = next(
        (i for i, (k, item) in enumerate(body) if k and isinstance(item, Table) and not k.is_dotted()),
        len(body),
    )
    end = max((i + 1 for i, (k, _) in enumerate(body[:first_section]) if k), default=0)
    if end == 0 and not isinstance(container, Table):
        # The comment at the top describes the file, unless a section follows without a blank line.
        head = next((i for i, (_, item) in enumerate(body) if not isinstance(item, Comment)), len(body))
        end = 0 if head == first_section < len(body) else head
    rest = body[end:]
    del body[end:]
    container.append(key, value)
    body.extend(rest)


def _check(text: str, changes: dict[str, Any], path: Path) -> None:
    """Raise unless `text` is a valid config file that contains the changes."""
    parse(text, path)
    data = tomllib.loads(text)
    for name, value in changes.items():
        found: Any = data
        for part in name.split("."):
            found = found[part]
        if found != value:
            raise ValueError(name)


def _replace(path: Path, text: str) -> None:
    """Replace the whole file in one step. A symbolic link stays a link. Raises `ConfigError`."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ConfigError(f"{path} is not a regular file: nothing was written")
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
        raise ConfigError(f"{path} cannot be written ({error.strerror}): the change is not saved") from None
