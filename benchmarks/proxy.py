"""A proxy that holds back what clients send to Redis for a while, in a process of its own: latency on a loopback."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass bytes on, each piece so long after it came; later pieces do not wait for earlier ones."""
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 20):
            if delay_s:
                loop.call_later(delay_s, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
    finally:
        loop.call_later(delay_s, writer.close)


async def _serve(port: int, delay_s: float) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 21)
            await asyncio.gather(
                _pass_on(reader, behind_writer, delay_s), _pass_on(behind_reader, writer, 0.0)
            )

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 21)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def delayed(port: int, delay_ms: float) -> Iterator[int]:
    """A port of the loopback whose requests reach `port` so much later."""
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), str(delay_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
