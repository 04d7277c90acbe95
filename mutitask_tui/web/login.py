"""The login of `mutitask serve`: every request needs the right host, the right origin, and the password or its cookie.

A person logs in with the printed link (`/?token=...`), or enters the password in the browser's own dialog (HTTP basic
authentication, any user name). Both set a cookie, because not every browser sends basic authentication with a
websocket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from mutitask_tui.web.settings import WebSettings, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FAILED_LOGIN_S = 1.0
"""How long each wrong password takes. Wrong passwords wait for each other, so that guessing is slow for everyone."""

_COOKIE = "mutitask-session"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Login:
    """Accepts or refuses requests."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._session = secrets.token_urlsafe(32)
        self._delaying = asyncio.Lock()
        self._public = urlsplit(settings.public_url)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check a request, and add the security headers to its response."""
        try:
            response = await self._respond(request, handler)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_right_host(request.host):
            raise web.HTTPForbidden(text=f"This is not {request.host[:80]!r}: open the printed address.\n")
        if not self._is_right_origin(request):
            raise web.HTTPForbidden(text="Other web pages may not use this one.\n")
        if _is_equal(request.cookies.get(_COOKIE, ""), self._session):
            if "token" in request.query:
                raise self._with_cookie(web.HTTPFound("/"))
            return await handler(request)
        password = self._sent_password(request)
        if password is not None:
            if _is_equal(password, self._settings.password):
                if "token" in request.query:
                    raise self._with_cookie(web.HTTPFound("/"))
                response = await handler(request)
                if not response.prepared:
                    self._with_cookie(response)
                return response
            async with self._delaying:
                await asyncio.sleep(FAILED_LOGIN_S)
        raise web.HTTPUnauthorized(
            text="Open the link that `mutitask serve` printed, or enter its password.\n",
            headers={"WWW-Authenticate": 'Basic realm="MutiTask", charset="UTF-8"'},
        )

    def _with_cookie(self, response: Any) -> Any:
        secure = self._public.scheme == "https"
        response.set_cookie(_COOKIE, self._session, httponly=True, samesite="Strict", secure=secure, path="/")
        return response

    @staticmethod
    def _sent_password(request: web.Request) -> str | None:
        """Return the password of the request, right or wrong; None if it has none."""
        if "token" in request.query:
            return request.query["token"]
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""

    def _is_right_host(self, host: str) -> bool:
        """Return whether the request names this server.

        On loopback only loopback's names are right: a hostile page whose name resolves to 127.0.0.1 sends its own name.
        """
        if self._public.netloc and host == self._public.netloc:
            return True
        try:
            parts = urlsplit(f"//{host}")
            name = parts.hostname or ""
            _ = parts.port  # Raises an error for a wrong port.
        except ValueError:
            return False
        return bool(name) and (not self._settings.on_loopback or is_loopback(name))

    def _is_right_origin(self, request: web.Request) -> bool:
        """Return whether our own page opened this websocket or sent this form. A browser names the page."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        netloc = urlsplit(origin).netloc
        return bool(netloc) and netloc in (request.host, self._public.netloc)


def _is_equal(sent: str, expected: str) -> bool:
    """Compare in constant time, so that the time reveals no part of the secret. `sent` may be invalid Unicode."""
    return hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), expected.encode())
