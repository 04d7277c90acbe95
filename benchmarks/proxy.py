"""A proxy in its own process that delays each request to Redis. It simulates the latency of a network."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Forward each piece of data `delay_s` seconds after it arrives. Later pieces do not wait for earlier ones."""
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
            redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 21)
            await asyncio.gather(_forward(reader, redis_writer, delay_s), _forward(redis_reader, writer, 0.0))

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 21)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def delayed(port: int, delay_ms: float) -> Iterator[int]:
    """Start a proxy. Yield its port on the loopback, whose requests reach `port` after `delay_ms`."""
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
