"""A small file system for one test, which the test can fill."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


class SmallDisk:
    """A tmpfs of `megabytes` MB at `folder`, which is created. Raises `OSError` if this user may not mount one."""

    def __init__(self, folder: Path, megabytes: int = 24) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode:
            raise OSError(mounted.stderr.decode(errors="replace"))

    def fill(self) -> None:
        """Fill the disk completely."""
        with (self.folder / "filling").open("wb", buffering=0) as filling:
            while True:
                try:
                    filling.write(b"x" * 4096)
                except OSError:
                    return

    def make_room(self) -> None:
        (self.folder / "filling").unlink()

    def remove(self) -> None:
        """Unmount the disk, even if a process has a file on it open."""
        subprocess.run(["umount", "--lazy", self.folder], check=False)


def disks_allowed() -> bool:
    """Return whether this user may mount a small disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder), 1).remove()
        except OSError:
            return False
    return True
