"""Copies what local agents print from their pipes into log files of bounded size. Runs as a program of its own.

    python -I -S log_writer.py MAX_BYTES FD PATH [FD PATH]...

Each FD is the reading end of a pipe. A file that would grow above MAX_BYTES is renamed to PATH.1, which replaces an
older one. The program ends when no process has the other end of any pipe. It imports only what it needs, because it
lives as long as the agents, and it outlives a server that was killed, as they do.
"""

import os
import select
import signal
import sys
import time

READ_BYTES = 65_536
CHECK_S = 1.0
"""How often it is checked that the file is still at its path: somebody may have moved or removed it."""


class LogFile:
    """One agent's log. What cannot be written (a full disk) is dropped: an agent must not wait for its log."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file = -1
        self._size = 0
        self._checked = 0.0

    def write(self, data: bytes) -> None:
        """Append data. Starts a new file, at the end of a line if there is one, where the limit is reached."""
        try:
            self._open()
            if self._size + len(data) > self._limit:
                end = data.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1
                self._append(data[:end])
                self._rotate()
                data = data[end:]
            self._append(data)
        except OSError:
            self._close()

    def _open(self) -> None:
        now = time.monotonic()
        if self._file >= 0 and now - self._checked >= CHECK_S:
            self._checked = now
            if not self._is_in_place():
                self._close()
        if self._file < 0:
            self._checked = now
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            os.fchmod(self._file, 0o600)
            self._size = os.fstat(self._file).st_size

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))  # noqa: PTH116 - imports no pathlib
        except OSError:
            return False

    def _append(self, data: bytes) -> None:
        while data:
            written = os.write(self._file, data)
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        self._close()
        os.replace(self._path, f"{self._path}.1")  # noqa: PTH105
        self._open()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def main() -> None:
    """Copy until no agent is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    limit = int(sys.argv[1])
    files = {int(fd): LogFile(path, limit) for fd, path in zip(sys.argv[2::2], sys.argv[3::2], strict=True)}
    poll = select.poll()
    for fd in files:
        poll.register(fd, select.POLLIN)
    while files:
        for fd, _ in poll.poll():
            data = os.read(fd, min(READ_BYTES, limit))
            if data:
                files[fd].write(data)
            else:
                poll.unregister(fd)
                os.close(fd)
                del files[fd]


if __name__ == "__main__":
    main()
