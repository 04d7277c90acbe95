"""A helper beside a job file may be called like a library: who is not of the job imports the library all the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType


def guard(folder: str) -> None:
    """From now on only code in that folder finds modules there before all others."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _folders.add(folder)


def set_aside(folder: str) -> None:
    """What the job has imported from that folder in the place of a library keeps to the job, which holds it by now."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." not in name and isinstance(file, str) and _is_in(file, folder) and _is_elsewhere(name):
            del sys.modules[name]


_folders: set[str] = set()


class _Finder:
    """Looks everywhere but in the jobs' folders, for whoever does not stand in one.

    What is not found is left to others: pickle imports a job's helpers for it. Python's own modules are not.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or _is_of_a_job(sys._getframe(1)):
            return None
        if name in sys.builtin_module_names:
            return None
        spec = PathFinder.find_spec(name, [entry for entry in sys.path if entry not in _folders], target)
        if spec is None and name in sys.stdlib_module_names:  # Another system's, such as `winreg`.
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _is_of_a_job(frame: FrameType | None) -> bool:
    """Whether the code that imports, which stands behind Python's own import system, is in a job's folder."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not (file.startswith("<frozen importlib") or f"{os.sep}importlib{os.sep}" in file):
            return any(_is_in(file, folder) for folder in _folders)
        frame = frame.f_back
    return False


def _is_elsewhere(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    return PathFinder.find_spec(name, [entry for entry in sys.path if entry not in _folders]) is not None


def _is_in(file: str, folder: str) -> bool:
    inside = folder.rstrip(os.sep) + os.sep
    if not file.startswith(inside):
        return False
    # A virtual environment in the job's folder is a place of its own.
    return not any(entry.startswith(inside) and file.startswith(entry) for entry in sys.path)
