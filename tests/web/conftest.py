"""A server, `mutitask serve` on its namespace, and a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest

from tests.cli.tools import Stack
from tests.support.programs import Program
from tests.web.web_site import PASSWORD, WebSite


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """A server with one running device."""
    with Stack(redis_url, "served", iter(range(5)), devices=2, autostart=True) as stack:
        stack.agent(0)
        yield stack


@pytest.fixture
def serve(
    stack: Stack, spawn: Callable[..., Program], wait_until: Callable[..., object]
) -> Callable[..., WebSite]:
    """Start `mutitask serve` with these options."""

    def start(*options: str) -> WebSite:
        env = {"MUTITASK_REDIS_URL": stack.url, "MUTITASK_SERVE_PASSWORD": PASSWORD}
        line = ["mutitask", "serve", "--name", stack.name, "--port", "0", *options]
        return WebSite(spawn(line, env), wait_until)

    return start


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps cookies as a browser does, also those of a numeric address."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session
