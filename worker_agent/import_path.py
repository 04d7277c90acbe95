"""Keeps modules in a job's folder to the job: other code imports the library of the same name instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType


def reserve_for_job(folder: str) -> None:
    """From now on, only code in this folder finds the folder's modules first. Other code searches elsewhere first."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _folders.add(folder)


def drop_shadowing_modules(folder: str) -> None:
    """Remove modules of this folder that have a library's name from `sys.modules`. The job keeps its references."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." not in name and isinstance(file, str) and _is_in(file, folder) and _is_elsewhere(name):
            del sys.modules[name]


_folders: set[str] = set()
"""The folders of the jobs that this process has loaded."""


class _Finder:
    """Finds modules outside the jobs' folders, for code that is not in one of them.

    A module that is not found is left to the other finders, since pickle imports a job's helpers for the job. The
    modules of the standard library are not left to them.
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
        if spec is None and name in sys.stdlib_module_names:
            # A module of another platform, such as `winreg`.
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _is_of_a_job(frame: FrameType | None) -> bool:
    """Return whether the importing code, below the frames of Python's import system, is in a job's folder."""
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
    # A virtual environment in the job's folder does not belong to the job.
    return not any(entry.startswith(inside) and file.startswith(entry) for entry in sys.path)
