"""A small file system of a test's own, as full as one likes."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


class SmallDisk:
    """A tmpfs of so many MB at `folder`, which is made. Raises `OSError` where this user may not mount one."""

    def __init__(self, folder: Path, megabytes: int = 24) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode:
            raise OSError(mounted.stderr.decode(errors="replace"))

    def fill(self) -> None:
        """Until nothing fits."""
        with (self.folder / "filling").open("wb", buffering=0) as filling:
            while True:
                try:
                    filling.write(b"x" * 4096)
                except OSError:
                    return

    def make_room(self) -> None:
        (self.folder / "filling").unlink()

    def remove(self) -> None:
        """Unmount it, also while somebody has a file there open."""
        subprocess.run(["umount", "--lazy", self.folder], check=False)


def disks_allowed() -> bool:
    """Whether this user may mount a small disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder), 1).remove()
        except OSError:
            return False
    return True
