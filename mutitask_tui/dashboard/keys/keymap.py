"""The keys in effect: checks the keys that a person changed, and makes the keymap for Textual."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import chain
from string import punctuation
from typing import Any

from textual.binding import Binding
from textual.keys import Keys, _character_to_key

from mutitask_tui.dashboard.keys.bindings import VIEW_BINDINGS, key_text
from mutitask_tui.dashboard.keys.screen_bindings import SCREEN_BINDINGS
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.commands.registry import COMMANDS

PALETTE = "palette"
PALETTE_KEY = "ctrl+p"
PALETTE_FALLBACK_KEY = "ctrl+backslash"
"""The palette's key when its default key is given to a command."""

_SAME_IN_TERMINALS = {
    "ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+j": "enter",
    "ctrl+left_square_bracket": "escape",
}  # fmt: skip
"""Keys for which a terminal sends the same as for another key."""

FIXED = {
    "escape": "Back", "enter": "Open", "tab": "the next panel", "shift+tab": "the panel before",
    "up": "the cursor", "down": "the cursor", "left": "the cursor", "right": "the cursor",
    "pageup": "the cursor", "pagedown": "the cursor", "home": "the cursor", "end": "the cursor",
    "ctrl+q": "Leave", "ctrl+c": "copying", "ctrl+z": "suspending",
}  # fmt: skip
"""Keys that cannot be changed, and what they do."""
_MODIFIERS = frozenset({"ctrl", "alt", "shift", "super", "hyper", "meta"})
_NAMED = frozenset(key.value for key in Keys if not key.value.startswith("<")) | {
    _character_to_key(character) for character in punctuation
}


class KeyProblem(Exception):
    """The key of `name` cannot be used; the text says why in one sentence."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def default_keys() -> dict[str, str]:
    """Return the default keys by name: commands, the view's own actions, the palette."""
    return {
        **{command.name: command.key for command in COMMANDS},
        **{view_name(binding): binding.key for binding in VIEW_BINDINGS},
        PALETTE: PALETTE_KEY,
    }


def checked_keys(given: Mapping[str, Any]) -> dict[str, str]:
    """Check the keys in `given` and return them in Textual's names. Raises `KeyProblem`."""
    defaults = default_keys()
    aliases = _aliases()
    changed: dict[str, str] = {}
    words: dict[str, str] = {}
    for word, value in given.items():
        name = aliases.get(word, word)
        if name not in defaults:
            near = difflib.get_close_matches(word, [*defaults, *aliases], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            known = ", ".join(sorted(defaults))
            raise KeyProblem(word, f"no command is called {safe_str(word, 60)!r}{hint}; there are {known}")
        if name in changed:
            raise KeyProblem(word, f"{word} and {words[name]} are the same command: keep one of them")
        changed[name], words[name] = _keys_of(word, value), word
    _check_conflicts(changed, words)
    return changed


def full_name(word: str) -> str:
    """Return a command's name for its name or one of its aliases."""
    return _aliases().get(word, word)


def _aliases() -> dict[str, str]:
    return {alias: command.name for command in COMMANDS for alias in command.aliases}


def _keys_of(word: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise KeyProblem(word, f'the key of {word} must be text, such as "ctrl+p" or "P"')
    parts = [","] if value.strip() == "," else value.split(",")
    return ",".join(_key(word, part.strip()) for part in parts)


def _key(word: str, key: str) -> str:
    *modifiers, last = ["+"] if key == "+" else key.split("+")
    name = _character_to_key(last) if len(last) == 1 else last
    known = name in _NAMED or (len(last) == 1 and last.isprintable())
    if not known or not _MODIFIERS.issuperset(modifiers):
        raise KeyProblem(
            word,
            f"{safe_str(key, 40)!r} is not a key: write a character, or a name such as f2, space, ctrl+p, alt+x",
        )
    if modifiers == ["shift"] and len(last) == 1:
        raise KeyProblem(
            word, f"{key!r} is never sent by a terminal: write the character itself, such as {last.upper()!r}"
        )
    if len(last) == 1 and last.isalpha() and last != last.lower() and modifiers:
        modifiers, name = [*modifiers, "shift"], last.lower()
    whole = "+".join([*sorted(set(modifiers)), name])
    if same := _SAME_IN_TERMINALS.get(whole):
        raise KeyProblem(word, f"{key!r} is the same as {same} in a terminal: choose another key")
    return whole


def _check_conflicts(changed: Mapping[str, str], words: Mapping[str, str]) -> None:
    users: dict[str, str] = {}
    for name, keys in effective_keys(changed).items():
        for key in filter(None, keys.split(",")):
            other = users.setdefault(key, name)
            if other != name:
                mine, theirs = (name, other) if name in changed else (other, name)
                both = f"{key} is the key of both {theirs} and {mine}"
                raise KeyProblem(words[mine], f"{both}: give one of them another")
    reserved, defaults = {**own_keys(), **FIXED}, default_keys()
    for name, keys in changed.items():
        for key in keys.split(","):
            if key in reserved and key not in defaults[name].split(","):
                raise KeyProblem(
                    words[name], f"{key} is used by the view ({reserved[key]}): choose another key"
                )


def effective_keys(changed: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of every name. The palette gives up its key if `changed` uses it for something else."""
    keys = {**default_keys(), **changed}
    if PALETTE not in changed and any(PALETTE_KEY in value.split(",") for value in changed.values()):
        keys[PALETTE] = PALETTE_FALLBACK_KEY
    return keys


def keymap(changed: Mapping[str, str]) -> dict[str, str]:
    """Return the changed keys for `App.set_keymap`, by the ids of the bindings."""
    views = {view_name(binding): binding.id for binding in VIEW_BINDINGS}
    defaults = default_keys()
    return {
        views.get(name) or name: keys
        for name, keys in effective_keys(changed).items()
        if keys != defaults[name]
    }


def own_keys() -> dict[str, str]:
    """Return the keys that screens and lists use for themselves, and what for."""
    movable = {*default_keys(), *(binding.id for binding in VIEW_BINDINGS)}
    bindings = Binding.make_bindings(chain.from_iterable(SCREEN_BINDINGS.values()))
    return {b.key: b.description or b.action for b in bindings if b.id not in movable}


def shown_keys(keys: str) -> str:
    """Return keys as the screen shows them: `? F1`."""
    return " ".join(
        key_text(key).upper() if key[:1] == "f" and key[1:].isdigit() else key_text(key)
        for key in keys.split(",")
        if key
    )


def view_name(binding: Binding) -> str:
    """Return the name in the config file of one of the view's own bindings."""
    return (binding.id or "").removeprefix("view.")
