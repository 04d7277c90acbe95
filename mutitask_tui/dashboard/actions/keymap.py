"""Keys that a person moved: which names have keys, which keys are free, and the keymap for Textual."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from string import punctuation
from typing import Any

from textual.binding import Binding
from textual.keys import Keys, _character_to_key

from mutitask_tui.dashboard.actions.bindings import VIEW_BINDINGS, key_text
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.commands.registry import COMMANDS

PALETTE = "palette"
PALETTE_KEY = "ctrl+p"
PALETTE_ELSEWHERE = "ctrl+backslash"
"""Where the palette goes when its own key is given to a command."""

_AS_TERMINALS_SEND_THEM = {
    "ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+j": "enter",
    "ctrl+left_square_bracket": "escape",
}  # fmt: skip
FIXED = {
    "escape": "Back", "enter": "Open", "tab": "the next panel", "shift+tab": "the panel before",
    "up": "the cursor", "down": "the cursor", "left": "the cursor", "right": "the cursor",
    "pageup": "the cursor", "pagedown": "the cursor", "home": "the cursor", "end": "the cursor",
    "ctrl+q": "Leave", "ctrl+c": "copying", "ctrl+z": "suspending",
}  # fmt: skip
"""Keys that cannot be given to anything else, and what they are for."""
_MODIFIERS = frozenset({"ctrl", "alt", "shift", "super", "hyper", "meta"})
_NAMED = frozenset(key.value for key in Keys if not key.value.startswith("<")) | {
    _character_to_key(character) for character in punctuation
}


class KeyProblem(Exception):
    """What is wrong with the key of `name`, in one sentence."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def default_keys() -> dict[str, str]:
    """The key or keys of every name that can be moved: commands, the view's own, the palette."""
    return {
        **{command.name: command.key for command in COMMANDS},
        **{view_name(binding): binding.key for binding in VIEW_BINDINGS},
        PALETTE: PALETTE_KEY,
    }


def checked_keys(given: Mapping[str, Any]) -> dict[str, str]:
    """The moved keys as Textual names them. Raises `KeyProblem`."""
    defaults = default_keys()
    aliases = _aliases()
    moved: dict[str, str] = {}
    said: dict[str, str] = {}
    for word, value in given.items():
        name = aliases.get(word, word)
        if name not in defaults:
            near = difflib.get_close_matches(word, [*defaults, *aliases], 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            known = ", ".join(sorted(defaults))
            raise KeyProblem(word, f"no command is called {safe_str(word, 60)!r}{hint}; there are {known}")
        if name in moved:
            raise KeyProblem(word, f"{word} and {said[name]} are the same command: keep one of them")
        moved[name], said[name] = _keys_of(word, value), word
    _no_key_twice(moved, said)
    return moved


def full_name(word: str) -> str:
    """A command's own name, of any of its names."""
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
            f"{safe_str(key, 40)!r} is no key: write a character, or a name such as f2, space, ctrl+p, alt+x",
        )
    if modifiers == ["shift"] and len(last) == 1:
        raise KeyProblem(word, f"{key!r} never arrives: write the character itself, such as {last.upper()!r}")
    if len(last) == 1 and last.isalpha() and last != last.lower() and modifiers:
        modifiers, name = [*modifiers, "shift"], last.lower()
    whole = "+".join([*sorted(set(modifiers)), name])
    if same := _AS_TERMINALS_SEND_THEM.get(whole):
        raise KeyProblem(word, f"{key!r} cannot be told from {same} in a terminal: take another")
    return whole


def _no_key_twice(moved: Mapping[str, str], said: Mapping[str, str]) -> None:
    users: dict[str, str] = {}
    for name, keys in effective_keys(moved).items():
        for key in filter(None, keys.split(",")):
            other = users.setdefault(key, name)
            if other != name:
                mine, theirs = (name, other) if name in moved else (other, name)
                both = f"{key} is the key of both {theirs} and {mine}"
                raise KeyProblem(said[mine], f"{both}: give one of them another")
    reserved = {**own_keys(), **FIXED}
    for name, keys in moved.items():
        for key in keys.split(","):
            if key in reserved:
                raise KeyProblem(said[name], f"{key} is taken by the view ({reserved[key]}): take another")


def effective_keys(moved: Mapping[str, str]) -> dict[str, str]:
    """The keys of every name, with those that were moved. The palette makes way."""
    keys = {**default_keys(), **moved}
    if PALETTE not in moved and any(PALETTE_KEY in value.split(",") for value in moved.values()):
        keys[PALETTE] = PALETTE_ELSEWHERE
    return keys


def keymap(moved: Mapping[str, str]) -> dict[str, str]:
    """The same for `App.set_keymap`: by the ids of the bindings."""
    views = {view_name(binding): binding.id for binding in VIEW_BINDINGS}
    defaults = default_keys()
    return {
        views.get(name) or name: keys
        for name, keys in effective_keys(moved).items()
        if keys != defaults[name]
    }


def own_keys() -> dict[str, str]:
    """The keys that screens and widgets have for themselves, and what for."""
    from mutitask_tui.dashboard.screens.frame import FrameScreen
    from mutitask_tui.dashboard.widgets.cell_grid import CellGrid

    movable = {*default_keys(), *(binding.id for binding in VIEW_BINDINGS)}
    own: dict[str, str] = {}
    for owner in (*_family(FrameScreen), *_family(CellGrid)):
        for binding in Binding.make_bindings(owner.__dict__.get("BINDINGS", ())):
            if binding.id not in movable:
                own[binding.key] = binding.description or binding.action
    return own


def _family(owner: type[Any]) -> Iterable[type[Any]]:
    yield owner
    for child in owner.__subclasses__():
        yield from _family(child)


def shown_keys(keys: str) -> str:
    """Keys as a person knows them: `? F1`."""
    return " ".join(
        key_text(key).upper() if key[:1] == "f" and key[1:].isdigit() else key_text(key)
        for key in keys.split(",")
        if key
    )


def view_name(binding: Binding) -> str:
    """The name in the config file of one of the view's own bindings."""
    return (binding.id or "").removeprefix("view.")
